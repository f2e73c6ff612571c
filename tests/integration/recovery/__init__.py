"""Integration tests of `connections/recovery/`."""
