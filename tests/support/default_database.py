"""Put another database behind Django's default alias for the length of a block, in the tests' own process."""

from collections.abc import Iterator
from contextlib import contextmanager

import dj_database_url
from django.db import DEFAULT_DB_ALIAS, connections


@contextmanager
def default_database(url: str) -> Iterator[None]:
    """Connect the default alias to `url` in the block. A thread that starts in the block connects there too, and has to
    close its connection before the block ends.
    """
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
