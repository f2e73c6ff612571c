"""A server with the applications of tests.support.misbehaving_apps, and the seconds within which each ending is due."""

import time

import pytest

from tests.support.clients import ChatClient, connect, eventually
from tests.support.databases import Database, TestUser
from tests.support.scenes import MARGIN, Pace, records
from tests.support.servers import Server

PACE = Pace(sweep=0, heartbeat=1.0)  # no sweep: each ending has to free its slot without one
AT_ONCE = 1.0  # seconds after a clean close or a handler's exception
STUCK_SECONDS, HANDSHAKE_SECONDS, SEND_SECONDS = 1.0, 1.5, 1.5
GRACE_SECONDS = 8.0 + 2.0  # for a handler to end after its disconnect, and then after its cancellation
CLOSE_SECONDS = 2.0  # for the last frames to be sent, and again for the close handshake
SETTINGS = PACE.settings(
    stuck_seconds=STUCK_SECONDS, handshake_seconds=HANDSHAKE_SECONDS, send_seconds=SEND_SECONDS, metrics="on"
)
APPS_ENV = {"DJANGO_SETTINGS_MODULE": "tests.support.settings"}
on_both_servers = pytest.mark.parametrize("kind", ["daphne", "uvicorn"])


class Stage:
    """One server with the misbehaving applications; each scene takes a user of its own."""

    def __init__(self, server: Server, database: Database) -> None:
        self.server = server
        self.database = database

    async def connect(self, user: str, path: str, *, frames: int = 0, answers_pings: bool = True) -> ChatClient:
        """Connect a client to a path, wait for its `ready`, and send `frames` frames."""
        client = await connect(self.server, self.database.user(user), path=path, answers_pings=answers_pings)
        await client.expect("ready")
        for number in range(frames):
            await client.send("go", number=number)
        return client

    async def wait_until_freed(self, user: str, reason: str, within: float) -> None:
        """Wait until the user's only record is closed, and check that it has this reason, evidence and an actor."""
        mine: TestUser = self.database.user(user)
        began = time.monotonic()
        await eventually(
            lambda: [record.state for record in records(self.database, mine)] == ["closed"],
            within=within + PACE.beat + MARGIN,
            why=f"{user} ended with {reason}",
        )
        [record] = records(self.database, mine)
        assert record.reason == reason, (user, record, time.monotonic() - began)
        assert record.evidence
        assert record.actor_kind


async def expect_close(client: ChatClient, code: int, reason: str, reconnect: str = "after") -> None:
    """Wait for the client's close, and check the close code and the `closing` frame before it."""
    assert await client.closed() == code, client.frames
    assert client.closing is not None
    assert (client.closing["code"], client.closing["reason"], client.closing["reconnect"]) == (code, reason, reconnect)
    assert 0 <= client.closing["retry_after"] <= 30
