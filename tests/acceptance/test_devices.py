"""A tab that connects again replaces its own record, two tabs have two, and an evicted tab may take over."""

import time
import uuid

from tests.support.clients import ChatClient, connect, connect_many, eventually, run
from tests.support.databases import Database
from tests.support.scenes import (
    PAUSED,
    Serve,
    check_chat_works,
    counted_ids,
    manager_of,
    record_of,
    wait_until_counted,
    wait_until_ready,
)

LIMIT = 4
ROOMY = PAUSED.settings(soft_limit=LIMIT, burst=2)


def a_device() -> str:
    return str(uuid.uuid4())


async def replaced(client: ChatClient) -> None:
    """Wait until a client is closed as replaced by another connect of its device."""
    assert await client.closed() == 4409
    assert client.closing is not None
    assert (client.closing["reason"], client.closing["reconnect"]) == ("replaced", "never")


def test_a_reload_replaces_its_own_record_and_takes_no_slot(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **ROOMY)
    user = database.user("u1")

    async def main() -> None:
        others = await connect_many(LIMIT - 1, server, user)
        await wait_until_ready(others)
        device, tab = a_device(), []
        for attempt in range(1, 5):
            tab.append(await connect(server, user, device=device, attempt=attempt))
            frame = await tab[-1].expect("ready")
            assert frame["live"] == LIMIT
        for old in tab[:-1]:
            await replaced(old)
            assert record_of(database, user, manager_of(old)).reason == "replaced"
        await wait_until_counted(database, user, [*others, tab[-1]], within=PAUSED.back_at_limit)
        # The same attempt number again is admitted: a page may connect twice within one millisecond.
        same = await connect(server, user, device=device, attempt=4)
        await same.expect("ready")
        await replaced(tab[-1])
        await wait_until_counted(database, user, [*others, same], within=PAUSED.back_at_limit)

    run(main())


def test_an_older_attempt_loses_to_a_newer_one_but_not_for_longer_than_a_handshake(
    serve: Serve, database: Database
) -> None:
    handshake = 2.0
    server = serve(database, ready="/readyz", **ROOMY, handshake_seconds=handshake)
    user = database.user("u1")

    async def main() -> None:
        device = a_device()
        newer = await connect(server, user, device=device, attempt=1_000)
        await newer.expect("ready")
        opened = time.monotonic()
        straggler = await connect(server, user, device=device, attempt=999)
        await replaced(straggler)
        assert not straggler.of("ready")
        await check_chat_works(newer)
        assert counted_ids(database, user) == {manager_of(newer)}
        # After a handshake's time a lower number is admitted, so that a client's clock that was set back locks no one
        # out.
        await eventually(lambda: time.monotonic() - opened > handshake, within=handshake + 1)
        later = await connect(server, user, device=device, attempt=5)
        await later.expect("ready")
        await replaced(newer)
        await wait_until_counted(database, user, [later], within=PAUSED.back_at_limit)

    run(main())


def test_two_devices_and_sockets_without_a_device_work_side_by_side(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **ROOMY)
    user, neighbour = database.user("u1"), database.user("u2")

    async def main() -> None:
        device = a_device()
        clients = [
            await connect(server, user, device=device, attempt=1),
            await connect(server, user, device=a_device(), attempt=1),
            await connect(server, user),
            await connect(server, user),
        ]
        await wait_until_ready(clients)
        # The same device id with another user is another device.
        stranger = await connect(server, neighbour, device=device, attempt=9)
        await wait_until_ready([stranger])
        for client in [*clients, stranger]:
            await check_chat_works(client)
        await wait_until_counted(database, user, clients, within=1)
        await wait_until_counted(database, neighbour, [stranger], within=1)

    run(main())


def test_an_evicted_tab_takes_over_and_back_without_a_loop(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings(soft_limit=1, burst=1))
    user = database.user("u1")

    async def main() -> None:
        devices = [a_device(), a_device()]
        here = await connect(server, user, device=devices[0], attempt=1)
        await here.expect("ready")
        for turn in range(1, 5):
            there, here = here, await connect(server, user, device=devices[turn % 2], attempt=turn + 1)
            await here.expect("ready")
            assert await there.closed(PAUSED.back_at_limit) == 4409
            assert there.closing is not None
            assert (there.closing["reason"], there.closing["reconnect"]) == ("evicted", "never")
            await wait_until_counted(database, user, [here], within=PAUSED.back_at_limit)
        await check_chat_works(here)

    run(main())
