"""Another database behind Django's default alias, for a while, in the tests' own process."""

from collections.abc import Iterator
from contextlib import contextmanager

import dj_database_url
from django.db import DEFAULT_DB_ALIAS, connections


@contextmanager
def default_database(url: str) -> Iterator[None]:
    """Threads that begin in the block connect there too. They have to have closed their connections at its end."""
    before, settings = connections[DEFAULT_DB_ALIAS], connections.settings[DEFAULT_DB_ALIAS]
    ours = {DEFAULT_DB_ALIAS: dict(dj_database_url.parse(url))}
    connections.settings[DEFAULT_DB_ALIAS] = connections.configure_settings(ours)[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS].close()
        connections.settings[DEFAULT_DB_ALIAS] = settings
        connections[DEFAULT_DB_ALIAS] = before
