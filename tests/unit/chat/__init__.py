"""Unit tests of `connections/chat/`."""
