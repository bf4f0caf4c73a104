"""The DICOM service node: network, intake, routing, jobs and delivery."""
