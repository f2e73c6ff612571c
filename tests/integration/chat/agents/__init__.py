"""Integration tests of `connections/chat/agents/`."""
