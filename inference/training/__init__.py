"""Fitting of the shipped and of a site's models."""
