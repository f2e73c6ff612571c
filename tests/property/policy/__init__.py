"""Properties of `connections/policy/`."""
