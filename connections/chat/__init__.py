"""The chat on `/ws/chat/`: page, socket, messages, agent turns. Code here may touch what is public in `connections`."""
