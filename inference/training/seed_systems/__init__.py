"""Training of the systems whose readers are in `inference.models.second_opinions`."""
