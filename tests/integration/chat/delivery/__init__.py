"""Integration tests of `connections/chat/delivery/`."""
