"""A database of a vendor that the engine does not know. It is SQLite, so that no MySQL is needed to start Django."""
