"""Training of the default segmenter on synthetic images of random label maps."""
