"""Deliver messages and agent events to sockets, once and in order. Code here may touch the bus and stored messages."""
