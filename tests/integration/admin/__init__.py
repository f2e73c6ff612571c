"""The Django admin, one file a module of connections/admin."""
