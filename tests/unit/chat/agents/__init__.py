"""Unit tests of `connections/chat/agents/`."""
