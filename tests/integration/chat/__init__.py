"""Integration tests of `connections/chat/`."""
