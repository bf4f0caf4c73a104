"""DICOM objects made from the results of a forecast."""
