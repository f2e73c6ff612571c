"""Integration tests of `connections/records/`."""
