"""Unit tests of `console/`."""
