"""A user with living managers at the limit, and bursts of connects: each is admitted or told when to come back."""

import asyncio
import random
import uuid

from tests.support.clients import ChatClient, connect, connect_many, eventually, run
from tests.support.databases import Database
from tests.support.scenes import (
    MARGIN,
    PAUSED,
    Pace,
    Serve,
    check_chat_works,
    close_reasons,
    counted_ids,
    highest_count,
    manager_of,
    record_of,
    wait_until_counted,
    wait_until_ready,
)

LIMIT, CEILING = 20, 25


def test_above_20_living_managers_6_more_are_admitted_and_the_least_active_are_evicted(
    serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings())
    user = database.user("u1")

    async def main() -> None:
        living = await connect_many(LIMIT, server, user)
        await wait_until_ready(living)
        random.Random(6).shuffle(living)  # so that the least active clients are not those that connected first
        for client in living:
            await client.send("list_sessions")
            await client.expect("sessions")
            await asyncio.sleep(1.2 * PAUSED.beat)  # a record's last activity is exact to a beat
        with highest_count(database, user) as highest:
            newcomers = await connect_many(6, server, user)
            await wait_until_ready(newcomers)
            assert all(LIMIT < client.of("ready")[0]["live"] <= CEILING for client in newcomers)
            least_active, rest = living[:6], living[6:]
            await wait_until_counted(database, user, [*rest, *newcomers], within=PAUSED.back_at_limit)
            assert LIMIT < highest() <= CEILING
        for client in least_active:
            await evicted(client)
            assert record_of(database, user, manager_of(client)).reason == "evicted"
        await asyncio.gather(*map(check_chat_works, [*rest, *newcomers]))

    run(main())


def test_at_the_ceiling_a_newcomer_takes_the_place_of_the_least_active_at_once(
    serve: Serve, database: Database
) -> None:
    limit, ceiling, unhurried = 4, 6, Pace(sweep=0, probe=2.0)
    server = serve(database, ready="/readyz", **unhurried.settings(soft_limit=limit, burst=ceiling - limit))
    user = database.user("u1")

    async def main() -> None:
        living = await connect_many(limit - 1, server, user)
        await wait_until_ready(living)
        # While the run waits for the silent client's answer it evicts none, and the newcomers fill the slots to the
        # ceiling.
        mute = await connect(server, user, answers_pings=False)
        await wait_until_ready([mute])
        newcomers = []
        with highest_count(database, user) as highest:
            for live in (5, 6, 6, 6):
                await asyncio.sleep(1.1 * unhurried.beat)
                newcomers.append(await connect(server, user))
                await newcomers[-1].expect("ready", timeout=1, live=live)
            await asyncio.sleep(unhurried.beat)
            gone = [client for client in living if not client.is_open]
            assert len(gone) == 2
            for client in gone:
                await evicted(client)
            assert highest() == ceiling
            left = [client for client in [*living, *newcomers] if client not in gone]
            assert await mute.closed(unhurried.back_at_limit) == 4408
            await eventually(lambda: len(counted_ids(database, user)) == limit, within=unhurried.back_at_limit)
        await wait_until_counted(database, user, left[-limit:], within=MARGIN)

    run(main())


async def evicted(client: ChatClient) -> None:
    """Wait until a client is closed as evicted and told not to reconnect by itself."""
    assert await client.closed() == 4409
    told = client.closing
    assert told is not None
    assert (told["reason"], told["reconnect"], told["retry_after"]) == ("evicted", "never", 0)


async def rate_limited(client: ChatClient) -> float:
    """Wait until a client is refused for its user's rate, and return after how many seconds it may come again."""
    assert await client.closed() == 4429
    told = client.closing
    assert told is not None
    assert (told["code"], told["reason"], told["reconnect"]) == (4429, "rate_limited", "after")
    assert client.socket.subprotocol == "chat"
    wait: float = told["retry_after"]
    return wait


def test_of_50_connects_at_once_at_least_25_are_admitted_and_the_others_at_their_promised_times(
    serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings(connect_rate="30/3s"))
    user = database.user("u1")
    devices = [str(uuid.uuid4()) for _ in range(50)]
    waits: list[float] = []
    admitted: list[ChatClient] = []

    async def one(device: str) -> None:
        client = await connect(server, user, device=device, attempt=1, subprotocols=["chat"])
        while not client.frames and client.is_open:
            await asyncio.sleep(0.01)
        if client.of("ready"):
            admitted.append(client)
            return
        wait = await rate_limited(client)
        waits.append(wait)
        await asyncio.sleep(wait)
        again = await connect(server, user, device=device, attempt=2)
        await again.expect("ready")
        admitted.append(again)

    async def main() -> None:
        with highest_count(database, user) as highest:
            await asyncio.gather(*map(one, devices))
            assert len(admitted) == 50
            assert len(waits) <= 25
            assert waits, "nobody was refused: the burst was too slow to show anything"
            assert all(0 <= wait <= 30 for wait in waits)
            assert len(set(waits)) == len(waits)
            await eventually(lambda: len(counted_ids(database, user)) == LIMIT, within=PAUSED.back_at_limit)
            assert highest() <= CEILING
        await eventually(lambda: sum(client.is_open for client in admitted) == LIMIT, within=PAUSED.beat + MARGIN)
        await wait_until_counted(database, user, [client for client in admitted if client.is_open], within=MARGIN)
        # The last evicted clients get their close a moment after their records ceased to count.
        await eventually(lambda: close_reasons(database, user) == {"evicted": 50 - LIMIT}, within=PAUSED.beat + MARGIN)

    run(main())
