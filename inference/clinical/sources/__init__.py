"""Sources of clinical values beside files: SQL tables, DICOM attributes, structured reports, report texts."""
