"""Messages and events on their way to sockets: once, and in order. Code here may touch the bus and stored messages."""
