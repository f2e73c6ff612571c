"""The chat on `/ws/chat/`: what the connections are for. Depends on `connections`, never the other way."""
