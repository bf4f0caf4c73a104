"""DICOM network services."""
