"""The protocol's survival model: tokens of a patient to hazards, and curves with limits."""
