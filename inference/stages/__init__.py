"""Pipeline stages; none imports another."""
