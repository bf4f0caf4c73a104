"""Measures of predictive performance, each a pure function of arrays."""
