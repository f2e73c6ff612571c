"""A socket that its application closes ends with the same code, and as soon, as without the middleware."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import eventually, run
from tests.support.databases import Database
from tests.support.dropin_scenes import PACE, Door, Stage, close_of
from tests.support.scenes import MARGIN, Serve, held_ids, records
from tests.support.servers import Server, free_port

# What the client asks the application to close with: a number, None, or no code at all.
CODES = ["1000", "1001", "1011", "1012", "1013", "3000", "4999", "0", "999", "5000", "null", ""]
TAKEN = {  # by the server's implementation, with the codes that the client sees; all others are refused with an error
    "daphne": {"1000": 1000, "3000": 3000, "4999": 4999, "null": 1000, "": 1000},
    "uvicorn": {code: int(code) for code in CODES[:7]} | {"": 1000},
    "bare uvicorn": {code: int(code) for code in CODES[:7]} | {"": 1000, "null": 1005},
}
REFUSED = {"daphne": 1011, "uvicorn": 1006, "bare uvicorn": 1006}
CLOSED_SECONDS = {"daphne": 2.0, "uvicorn": 0.5, "bare uvicorn": 0.5}  # Daphne looks for failed ones once a second


def started(kind: str, serve: Serve, database: Database) -> Server:
    if kind != "bare uvicorn":
        return serve(database, kind=kind, ready="/readyz", **PACE.settings())
    port = free_port()
    command = ["-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "tests.dropin.asgi:application"]
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return serve(database, port=port, command=command, env=env, **PACE.settings())


@pytest.mark.parametrize("kind", list(TAKEN))
def test_a_socket_closes_with_each_code_as_it_does_bare(kind: str, serve: Serve, dropin_database: Database) -> None:
    stage = Stage(started(kind, serve, dropin_database), dropin_database)

    user = dropin_database.user("u1")

    async def main() -> None:
        for code in CODES:
            await closed_with(code)
        await eventually(lambda: not held_ids(dropin_database, user))

    async def closed_with(code: str) -> None:
        async def scene(door: Door) -> Any:
            async with door("closes") as socket:
                await socket.send(code)
                began = time.monotonic()
                closed = await close_of(socket)
                assert time.monotonic() - began < CLOSED_SECONDS[kind] + MARGIN, code
                return closed

        wanted = TAKEN[kind].get(code, REFUSED[kind])
        assert (await stage.same("u1", scene))[:2] == ([], wanted), code

    run(main())
    for code, end in zip(CODES, records(dropin_database, user), strict=True):
        number = {"null": "1000", "": "1000"}.get(code, code)
        if code in TAKEN[kind]:
            assert (end.reason, end.evidence) == ("app_closed", f"the application closed it with {number}"), code
        else:
            assert end.reason == "handler_failed", code
            assert end.evidence.startswith("the server refused its websocket.close with"), code
