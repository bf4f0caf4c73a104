"""What the node knows of itself: signs of life, counters, health, metrics and alerts."""
