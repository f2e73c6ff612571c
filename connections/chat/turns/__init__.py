"""Agent turns: their rows, running them, and showing them on every node. Code here may touch any room of the chat below."""
