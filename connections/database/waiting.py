"""Note which threads wait for the database at this moment: for its answer, or for a connection to it.

That wait is the database's, or the network's, and no failure of the thread. It may be long: a round of many statements
on a slow server, a list of servers that don't answer, or the name of a server while the name server is away, which no
time-out of a connection bounds.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_waiting: set[int] = set()  # by threading.get_ident()


@contextmanager
def waiting() -> Iterator[None]:
    """Note that the calling thread waits for the database during the block."""
    thread = threading.get_ident()
    if thread in _waiting:  # within another block of this thread
        yield
        return
    _waiting.add(thread)
    try:
        yield
    finally:
        _waiting.discard(thread)


def waits(thread: threading.Thread) -> bool:
    """Whether this thread, which uses a connection of the engine's own, waits for the database."""
    return thread.ident in _waiting
