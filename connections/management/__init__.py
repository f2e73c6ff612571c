"""The commands, and what they share. Code here may touch every room of `connections`."""
