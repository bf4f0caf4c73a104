"""Re-processing of archived studies, in the background of the live work."""
