"""The learned generator: draws the images of a sampled outcome by flow matching."""
