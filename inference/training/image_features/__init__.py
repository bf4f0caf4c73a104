"""Training of the image encoder and of the self-supervised slice features."""
