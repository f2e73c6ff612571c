"""Agent turns: their rows, running them, showing them on every node. Code here may touch the chat's rooms below."""
