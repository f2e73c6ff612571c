"""Put another database behind Django's default alias for the length of a block, in the tests' own process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dj_database_url
from django.db import DEFAULT_DB_ALIAS, connections


@contextmanager
def default_database(url: str, **more: Any) -> Iterator[None]:
    """Connect the default alias to `url` in the block, with `more` settings as in DATABASES, whose OPTIONS are added.
    A thread that starts in the block connects there too, and has to close its connection before the block ends.
    """
    before, settings = connections[DEFAULT_DB_ALIAS], connections.settings[DEFAULT_DB_ALIAS]
    parsed: dict[str, Any] = dict(dj_database_url.parse(url))
    options = parsed.get("OPTIONS", {}) | more.pop("OPTIONS", {})
    ours = {DEFAULT_DB_ALIAS: parsed | more | {"OPTIONS": options}}
    connections.settings[DEFAULT_DB_ALIAS] = connections.configure_settings(ours)[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS].close()
        connections.settings[DEFAULT_DB_ALIAS] = settings
        connections[DEFAULT_DB_ALIAS] = before
