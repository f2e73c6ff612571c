"""Unit tests of `connections/node/`."""
