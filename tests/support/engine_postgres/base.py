"""Django imports this module of an ENGINE, and takes the class with this name."""

from django.db.backends.postgresql.base import DatabaseWrapper as Base


class DatabaseWrapper(Base):
    """Django's own, under another name."""
