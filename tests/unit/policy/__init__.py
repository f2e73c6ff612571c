"""Unit tests of `connections/policy/`."""
