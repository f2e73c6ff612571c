"""The demo: its users, rows, processes and chat clients; it may touch everything, and only the demo's own rows."""
