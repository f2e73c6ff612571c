"""The adopter's users: a UUID key, and no username."""
