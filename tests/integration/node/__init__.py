"""Integration tests of `connections/node/`."""
