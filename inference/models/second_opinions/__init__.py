"""Systems of other authors, rebuilt: what each of them says of a patient beside the forecast."""
