"""The chat over real sockets: conversations, turns, several nodes, slow and abusive clients."""
