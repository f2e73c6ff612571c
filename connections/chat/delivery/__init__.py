"""Messages and events on their way to sockets: once, and in order. Code here may touch rows through messages, and the bus."""
