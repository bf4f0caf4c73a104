"""Which studies are processed, and how."""
