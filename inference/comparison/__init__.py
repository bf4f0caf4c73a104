"""Comparison of regimens for one patient, learned from patients who were treated under each."""
