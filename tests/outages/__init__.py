"""Outages that a test can repeat: one fault at a time for a stated time, and what clients noticed. `make outages`."""
