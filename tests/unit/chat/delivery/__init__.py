"""Unit tests of `connections/chat/delivery/`."""
