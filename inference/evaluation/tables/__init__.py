"""Compares survival models on tables by one frozen protocol of repeated cross-validation."""
