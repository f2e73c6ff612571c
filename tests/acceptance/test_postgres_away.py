"""PostgreSQL is stopped or frozen, or connections to it are refused or dropped: no living client is dropped,
newcomers are told when to come back, messages typed meanwhile are stored afterwards, and no node is fenced.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.chaos.relays import Relay, to_path
from tests.chaos.stores import Postgres
from tests.support.clients import ChatClient, connect, connect_many, eventually, run
from tests.support.databases import Database, PostgresTemplate
from tests.support.scenes import (
    MARGIN,
    Pace,
    Serve,
    check_chat_works,
    fenced_nodes,
    manager_of,
    record_of,
    start_together,
    told_to_try_again,
    wait_until_counted,
    wait_until_ready,
)
from tests.support.servers import Server

PACE = Pace(beat=0.5, lease=3.0, heartbeat=1.0, sweep=0.5)
RECONCILE, HANDSHAKE = 1.0, 2.0
SETTINGS = PACE.settings(reconcile_seconds=RECONCILE, handshake_seconds=HANDSHAKE)
AWAY = 2 * PACE.lease  # seconds of the outage, in which the leases of all nodes end
RECONNECT = 2.0  # seconds until the engine's threads are connected: they try each beat, and a try may take 2 s

Fault = Callable[[], None]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this module alone, which the tests can stop and freeze."""
    with tempfile.TemporaryDirectory(prefix="rc-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder) / "data")
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def template(postgres: Postgres) -> PostgresTemplate:
    return PostgresTemplate(postgres.socket_folder)


@pytest.fixture
def own_database(template: PostgresTemplate, tmp_path: Path) -> Iterator[Database]:
    with template.copy(tmp_path) as copy:
        yield copy


async def start_two_nodes(serve: Serve, database: Database, relay: Relay) -> list[Server]:
    """Start two nodes whose connections to PostgreSQL go through the relay."""
    name = database.url.split("/")[3].split("?")[0]
    through = Database(f"postgres://postgres@127.0.0.1:{relay.port}/{name}", database.users)
    nodes = [
        serve(through, start=False, kind=kind, node_name=name, **SETTINGS)
        for kind, name in (("daphne", "web-1"), ("uvicorn", "web-2"))
    ]
    await asyncio.to_thread(start_together, *nodes)
    return nodes


@asynccontextmanager
async def away(how: str, postgres: Postgres, relay: Relay) -> AsyncIterator[None]:
    """Take PostgreSQL away, and bring it back at the end of the block."""
    faults: dict[str, tuple[Fault, Fault]] = {
        "stopped": (lambda: postgres.stop(hard=True), postgres.start),
        "refused": (relay.cut, relay.restore),
        "dropped": (relay.hold, relay.restore),
        "frozen": (postgres.freeze, postgres.thaw),
    }
    take_away, bring_back = faults[how]
    if how == "stopped":
        await asyncio.to_thread(take_away)
    else:
        take_away()
    try:
        yield
    finally:
        if how == "stopped":
            await asyncio.to_thread(bring_back)
        else:
            bring_back()


async def typed(client: ChatClient) -> str:
    """Send a message that can't be stored now, and return its client id."""
    client_id = str(uuid4())
    await client.send("user_message", client_id=client_id, conversation=None, text=f"Typed by {client_id}")
    return client_id


async def stored(database: Database, client: ChatClient, client_id: str) -> None:
    """Send the message again until its ack comes, as the page does."""
    until = time.monotonic() + 15
    while not [ack for ack in client.of("ack") if ack["client_id"] == client_id]:
        assert time.monotonic() < until, client.frames
        await client.send("user_message", client_id=client_id, conversation=None, text=f"Typed by {client_id}")
        await asyncio.sleep(1)
    count = "SELECT count(*) FROM chat_message WHERE text = ?"
    assert database.query(count, [f"Typed by {client_id}"]) == [(1,)]


async def nodes_are_ready(nodes: list[Server]) -> None:
    await eventually(
        lambda: all(node.get("/readyz")[0] == 200 for node in nodes), within=RECONNECT, why="both nodes are ready"
    )


@pytest.mark.parametrize("how", ["stopped", "refused", "dropped", "frozen"])
def test_while_postgresql_is_away_no_client_is_dropped_no_message_lost_and_no_node_fenced(
    how: str, postgres: Postgres, own_database: Database, serve: Serve
) -> None:
    database = own_database
    user, newcomer = database.user("u1"), database.user("u2")

    async def main() -> None:
        relay = Relay(to_path(postgres.socket_path))
        await relay.start()
        nodes = await start_two_nodes(serve, database, relay)
        clients = await connect_many(6, lambda number: nodes[number % 2], user)
        await wait_until_ready(clients)
        await asyncio.sleep(PACE.lease)  # until both nodes are steady, so that each could fence the other
        leaver, *stayers = clients
        began = time.monotonic()
        async with away(how, postgres, relay):
            await leaver.close()
            written = [await typed(client) for client in stayers[:2]]
            await asyncio.gather(*(told_to_try_again(node, newcomer) for node in nodes))
            for node in nodes:
                assert (await asyncio.to_thread(node.get, "/healthz"))[0] == 200
            await asyncio.sleep(max(0.0, AWAY - (time.monotonic() - began)))
            assert all(client.is_open for client in stayers)
        await wait_until_counted(database, user, stayers, within=RECONCILE + HANDSHAKE + RECONNECT + MARGIN)
        assert record_of(database, user, manager_of(leaver)).reason == "client_closed"
        await asyncio.gather(*(stored(database, *message) for message in zip(stayers, written, strict=False)))
        welcome = await connect(nodes[1], newcomer)
        await welcome.expect("ready")
        await asyncio.gather(*map(check_chat_works, [*stayers, welcome]))
        await nodes_are_ready(nodes)
        await asyncio.sleep(2 * 1.2 * PACE.sweep + PACE.beat)  # long enough for each node to sweep and fence
        assert fenced_nodes(database) == []
        await wait_until_counted(database, user, stayers, within=MARGIN)
        for node in nodes:
            node.terminate()
        await relay.stop()

    run(main())
