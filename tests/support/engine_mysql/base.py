"""Django imports this module of an ENGINE, and takes the class with this name."""

from django.db.backends.sqlite3.base import DatabaseWrapper as Base


class DatabaseWrapper(Base):
    vendor = "mysql"
