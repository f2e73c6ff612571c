"""`connections/policy/` in a process without Django."""
