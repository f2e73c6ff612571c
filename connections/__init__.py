"""WebSocket managers that never lock a user out: admission, liveness and recovery for Channels."""
