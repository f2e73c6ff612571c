"""Unit tests of `connections/server/`."""
