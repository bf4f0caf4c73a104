"""Geometry, measurement and marker placement on volumes."""
