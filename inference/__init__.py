"""Forecast of one study: the pipeline, its models and its results."""
