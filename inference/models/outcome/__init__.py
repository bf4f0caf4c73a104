"""What becomes of the tumours: a calibrated joint distribution of a few numbers per regimen and month."""
