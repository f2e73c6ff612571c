"""Each socket is told of each message once and in order, also when bells, clients or the order of commits lag."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from connections.bus import Bus
from connections.chat import messages
from connections.chat.delivery import subscriber as subscriber_module
from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.messages import StoredMessage
from connections.chat.turns import rows as turn_rows
from tests.support.chat_turns import Socket, ask, seqs, write
from tests.support.rows import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def test_messages_announced_out_of_order_come_in_order() -> None:
    user = make_user("ada")
    written = write(user, 6)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        for number in (0, 3, 1, 2, 5, 4, 5):
            hub.message(user.pk, written[number])

    assert seqs(user, main) == [1, 2, 3, 4, 5, 6]


def test_a_client_that_was_too_far_behind_gets_what_it_missed() -> None:
    user = make_user("ada")
    written = write(user, 5)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        hub.message(user.pk, written[0])
        socket.full = True
        for message in written[1:4]:
            hub.message(user.pk, message)
        await asyncio.sleep(0.1)
        socket.full = False
        hub.message(user.pk, written[4])

    assert seqs(user, main) == [1, 2, 3, 4, 5]


def test_a_bell_is_answered_from_the_rows_and_only_for_its_user() -> None:
    user, other = make_user("ada"), make_user("grace")
    mine, theirs = write(user, 2), write(other, 1)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        for name, message in ((user, mine[0]), (other, theirs[0]), (user, mine[1]), (user, mine[1])):
            hub._on_bell({"user": str(name.pk), "conversation": str(message.conversation), "seq": message.seq})
            await asyncio.sleep(0.1)
        for nonsense in ({}, {"user": str(user.pk)}, {"user": str(user.pk), "conversation": "x", "seq": 1}):
            hub._on_bell(nonsense)
        # A bell that somebody forged: this conversation is not this user's.
        hub._on_bell({"user": str(user.pk), "conversation": str(theirs[0].conversation), "seq": 1})

    assert seqs(user, main) == [1, 2]


def test_a_socket_that_is_gone_is_told_nothing() -> None:
    user = make_user("ada")
    written = write(user, 1)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        hub.detach(reader)
        hub.message(user.pk, written[0])

    assert seqs(user, main) == []


def come_to_rest(hub: Hub, reader: Subscriber) -> "asyncio.Task[None]":
    async def wait() -> None:
        while reader._tasks or hub._tasks:
            await asyncio.sleep(0.01)

    return asyncio.create_task(wait())


@pytest.mark.parametrize("order", [[3], [2, 3, 1], [3, 2, 1]])
def test_a_conversation_younger_than_the_socket_is_told_from_its_beginning(order: list[int]) -> None:
    """Bells are lost, or the reads they caused end in another order."""
    user, hub = make_user("ada"), Hub(Bus())
    socket = Socket(user)

    async def main() -> None:
        reader = hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        written = await asyncio.to_thread(write, user, 3)
        for seq in order:
            message = await asyncio.to_thread(messages.message, user.pk, written[0].conversation, seq)
            assert message is not None
            hub._offer([reader], message)
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [1, 2, 3]


def test_an_answer_brings_its_question_where_that_ones_bell_was_lost() -> None:
    """The turn runs on this node, and its question came over another."""
    user, hub = make_user("ada"), Hub(Bus())
    socket = Socket(user)

    async def main() -> None:
        reader = hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        await asyncio.to_thread(write, user, 1)
        claimed = await asyncio.to_thread(turn_rows.claim, user.pk, None)
        assert claimed is not None
        ended = await asyncio.to_thread(turn_rows.finish, claimed.run, claimed.attempt, "the answer")
        assert ended is not None
        hub.message(user.pk, ended.message)
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [1, 2]


def test_of_an_older_conversation_only_what_is_younger_than_the_socket_is_told() -> None:
    user, hub = make_user("ada"), Hub(Bus())
    old = write(user, 2)
    socket = Socket(user)

    async def main() -> None:
        reader = hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        await asyncio.to_thread(ask, user, "three", old[0].conversation)  # its bell is lost
        hub.message(user.pk, (await asyncio.to_thread(ask, user, "four", old[0].conversation)).message)
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [3, 4]


def test_rows_that_can_not_be_read_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "RETRY_SECONDS", 0.01)
    user = make_user("ada")
    written = write(user, 4)
    page_of, failures = messages.messages_after, [DatabaseError("broken"), TimeoutError()]

    def fails_twice(*arguments: Any) -> list[StoredMessage]:
        if failures:
            raise failures.pop()
        return page_of(*arguments)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        monkeypatch.setattr(messages, "messages_after", fails_twice)
        hub.message(user.pk, written[0])
        hub.message(user.pk, written[2])
        await asyncio.sleep(0.001)
        hub.message(user.pk, written[3])

    assert seqs(user, main) == [1, 2, 3, 4]


async def look(hub: Hub, reader: Subscriber, last: datetime) -> datetime:
    """Look once for what came since `last`, and wait until all of it is told."""
    looked = await hub._catch_up_once(last)
    assert looked is not None
    while reader._tasks or hub._tasks:
        await asyncio.sleep(0.01)
    return looked


def test_what_a_lost_bell_announced_is_told_at_the_next_look() -> None:
    user, other = make_user("ada"), make_user("grace")
    known = write(user, 2)
    socket, hub = Socket(user), Hub(Bus())

    async def main() -> None:
        reader = hub.attach(socket, timezone.now())  # type: ignore[arg-type]

        async def send(text: str) -> None:
            socket.deliver(text)

        long_ago = timezone.now() - timedelta(minutes=1)
        await look(hub, reader, long_ago)
        assert socket.frames == []  # what is older than the socket is for a resume
        await reader.resume(known[0].conversation, 1, send)
        looked = await look(hub, reader, long_ago)
        await asyncio.to_thread(write, other, 1)
        new = (await asyncio.to_thread(ask, user, "in a new conversation")).message
        for text in ("one", "and another"):
            await asyncio.to_thread(ask, user, text, known[0].conversation)
        looked = await look(hub, reader, looked)
        await look(hub, reader, looked)
        hub.detach(reader)
        assert {frame["conversation"] for frame in socket.frames} == {str(new.conversation), str(known[0].conversation)}

    asyncio.run(main())
    assert sorted((frame["seq"], frame["text"]) for frame in socket.frames) == [
        (1, "in a new conversation"),
        (2, "message 1"),
        (3, "one"),
        (4, "and another"),
    ]


def test_what_was_committed_after_a_look_is_told_although_it_says_that_it_is_older() -> None:
    user, hub = make_user("ada"), Hub(Bus())
    socket, came = Socket(user), timezone.now()

    async def main() -> None:
        reader = hub.attach(socket, came)  # type: ignore[arg-type]
        (message,) = await asyncio.to_thread(write, user, 1)
        await hub._catch_up_once(message.created_at + timedelta(seconds=8))  # as after a failover
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [1]


def test_a_message_whose_rows_could_not_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "RETRY_SECONDS", 0.01)
    user = make_user("ada")
    hub, socket, came = Hub(Bus()), Socket(user), timezone.now()
    read = messages.message

    def fails_once(*arguments: Any) -> StoredMessage | None:
        monkeypatch.setattr(messages, "message", read)
        raise DatabaseError("broken")

    async def main() -> None:
        reader = hub.attach(socket, came)  # type: ignore[arg-type]
        (message,) = await asyncio.to_thread(write, user, 1)
        monkeypatch.setattr(messages, "message", fails_once)
        hub._on_bell({"user": str(user.pk), "conversation": str(message.conversation), "seq": 1})
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [1]


def test_the_first_catch_up_covers_the_time_since_the_oldest_socket_was_admitted() -> None:
    """As after an outage in which every earlier round failed."""
    user = make_user("ada")
    hub, socket, came = Hub(Bus()), Socket(user), timezone.now()

    async def main() -> None:
        reader = hub.attach(socket, came)  # type: ignore[arg-type]
        await asyncio.to_thread(write, user, 1)  # its bell is lost
        await hub._catch_up_once(None)
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [1]


def test_an_answer_that_is_committed_after_its_time_reaches_the_socket_that_came_in_between() -> None:
    user = make_user("ada")
    hub, socket = Hub(Bus()), Socket(user)
    write(user, 1)
    claimed = turn_rows.claim(user.pk, None)
    assert claimed is not None
    ended = turn_rows.finish(claimed.run, claimed.attempt, "the answer")
    assert ended is not None

    async def main() -> None:
        reader = hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.message(user.pk, ended.message)
        await come_to_rest(hub, reader)

    asyncio.run(main())
    assert [frame["seq"] for frame in socket.of("message")] == [2]
