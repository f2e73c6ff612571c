"""Agent turns: their rows, running them, showing them on every node. Code here may touch all of the chat below."""
