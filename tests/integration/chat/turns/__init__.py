"""Integration tests of `connections/chat/turns/`."""
