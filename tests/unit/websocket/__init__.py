"""Unit tests of `connections/websocket/`."""
