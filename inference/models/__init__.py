"""Models behind the seams of the stages."""
