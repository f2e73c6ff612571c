"""The repository itself: rooms, imports, documents and names."""
