"""Properties of `connections/chat/`."""
