"""Living managers at the limit, and bursts of connects: always admitted or told when to come back."""

import asyncio
import random
import uuid

from tests.support.clients import ChatClient, connect, connect_many, eventually, run
from tests.support.databases import Database
from tests.support.scenes import (
    PAUSED,
    Serve,
    agree,
    chats,
    counted,
    highest_count,
    manager_of,
    ready,
    reasons,
    record_of,
)

LIMIT, CEILING = 20, 25


def test_at_20_living_a_21st_to_a_26th_are_admitted_and_the_least_active_go(
    serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings())
    user = database.user("u1")

    async def main() -> None:
        living = await connect_many(LIMIT, server, user)
        await ready(living)
        random.Random(6).shuffle(living)  # so that the least active are not the ones that opened first
        for client in living:
            await client.send("list_sessions")
            await client.expect("sessions")
            await asyncio.sleep(1.5 * PAUSED.beat)  # last activity is exact to a beat
        with highest_count(database, user) as highest:
            newcomers = []
            for number in range(6):
                client = await connect(server, user, device=str(uuid.uuid4()))
                frame = await client.expect("ready", timeout=1)
                assert frame["live"] == min(LIMIT + 1 + number, CEILING)
                newcomers.append(client)
            least_active, rest = living[:6], living[6:]
            assert await least_active[0].closed(PAUSED.beat + 1) == 4409  # made room at the ceiling, at once
            await agree(database, user, [*rest, *newcomers], within=PAUSED.settled)
            assert highest() == CEILING
        for client in least_active:
            assert await client.closed() == 4409
            assert client.closing is not None
            assert (client.closing["reason"], client.closing["reconnect"]) == ("evicted", "never")
            assert client.closing["retry_after"] == 0
            assert record_of(database, user, manager_of(client)).reason == "evicted"
        await asyncio.gather(*map(chats, [*rest, *newcomers]))

    run(main())


def test_of_50_at_once_at_least_25_get_in_and_the_others_when_they_are_told_to(
    serve: Serve, database: Database
) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings(connect_rate="30/5s"))
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
        assert await client.closed() == 4429
        told = client.closing
        assert told is not None
        assert (told["code"], told["reason"], told["reconnect"]) == (4429, "rate_limited", "after")
        assert client.socket.subprotocol == "chat"
        waits.append(told["retry_after"])
        await asyncio.sleep(told["retry_after"])
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
            await eventually(lambda: len(counted(database, user)) == LIMIT, within=PAUSED.settled)
            assert highest() <= CEILING
        still = [client for client in admitted if client.is_open]
        await agree(database, user, still, within=PAUSED.beat + 1)
        assert reasons(database, user) == {"evicted": 50 - LIMIT}

    run(main())
