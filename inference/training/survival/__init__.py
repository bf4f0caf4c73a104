"""Fits the protocol's survival model from arrays."""
