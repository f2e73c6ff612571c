"""Integration tests of `connections/database/`."""
