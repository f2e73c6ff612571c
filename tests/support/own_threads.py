"""What tests of database connections do in threads of their own."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections


def scalar(statement: str) -> Any:
    """The first column of the first row, over the calling thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def in_thread(body: Callable[[], object]) -> None:
    """Call `body` in a thread, whose connections are its own, and raise what it raised."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            failed.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    if failed:
        raise failed[0]
