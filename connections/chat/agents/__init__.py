"""Agents: whatever can answer a question. `protocol.py` says what one is; the chat runs it."""
