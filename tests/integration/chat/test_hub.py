"""Each socket is told of each message once and in order, also when bells, clients or the order of commits lag."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from connections.chat import store
from connections.chat.hub import Hub, Reader
from connections.chat.store import StoredMessage
from connections.chat.wire import UserMessage
from tests.integration.chat.test_runner import Socket
from tests.support.rows import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def write(user: User, count: int) -> list[StoredMessage]:
    """So many messages in one new conversation."""
    written: list[StoredMessage] = []
    for number in range(count):
        key, conversation = uuid4(), written[0].conversation if written else None
        sent = UserMessage(key, conversation, f"message {number}", str(key))
        written.append(store.add_user_message(user.pk, sent).message)
    return written


def told(user: User, main: Callable[[Hub, Reader, Socket], Awaitable[None]]) -> list[int]:
    """The sequence numbers that a socket was told, when everything has come to rest."""
    socket, hub = Socket(user), Hub()

    async def run() -> None:
        reader = hub.attach(socket)  # type: ignore[arg-type]
        await main(hub, reader, socket)
        async with asyncio.timeout(10):
            while reader._tasks or hub._reading:
                await asyncio.sleep(0.01)
        hub.detach(reader)

    asyncio.run(run())
    return [frame["seq"] for frame in socket.of("message")]


def test_messages_announced_out_of_order_come_in_order() -> None:
    user = make_user("ada")
    written = write(user, 6)

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        for number in (0, 3, 1, 2, 5, 4, 5):
            hub.message(user.pk, written[number])

    assert told(user, main) == [1, 2, 3, 4, 5, 6]


def test_a_client_that_was_too_far_behind_gets_what_it_missed() -> None:
    user = make_user("ada")
    written = write(user, 5)

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        hub.message(user.pk, written[0])
        socket.full = True
        for message in written[1:4]:
            hub.message(user.pk, message)
        await asyncio.sleep(0.1)
        socket.full = False
        hub.message(user.pk, written[4])

    assert told(user, main) == [1, 2, 3, 4, 5]


def test_a_bell_is_answered_from_the_rows_and_only_for_its_user() -> None:
    user, other = make_user("ada"), make_user("grace")
    mine, theirs = write(user, 2), write(other, 1)

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        for name, message in ((user, mine[0]), (other, theirs[0]), (user, mine[1]), (user, mine[1])):
            hub._heard({"user": str(name.pk), "conversation": str(message.conversation), "seq": message.seq})
            await asyncio.sleep(0.1)
        for nonsense in ({}, {"user": str(user.pk)}, {"user": str(user.pk), "conversation": "x", "seq": 1}):
            hub._heard(nonsense)
        # A bell that somebody forged: this conversation is not this user's.
        hub._heard({"user": str(user.pk), "conversation": str(theirs[0].conversation), "seq": 1})

    assert told(user, main) == [1, 2]


def test_live_messages_wait_until_a_resume_is_done() -> None:
    user = make_user("ada")
    written = write(user, 5)
    conversation: UUID = written[0].conversation

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        async def send(text: str) -> None:
            socket.deliver(text)
            if len(socket.frames) == 1:
                hub.message(user.pk, written[4])
            await asyncio.sleep(0)

        assert await reader.resume(conversation, 0, send) == 5
        hub.message(user.pk, written[4])

    assert told(user, main) == [1, 2, 3, 4, 5]


def test_what_is_stored_while_an_empty_resume_ends_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("ada")
    conversation = write(user, 1)[0].conversation
    page_of, new = store.messages_after, list[StoredMessage]()

    def page_and_then_another(*arguments: Any) -> list[StoredMessage]:
        page = page_of(*arguments)
        monkeypatch.setattr(store, "messages_after", page_of)
        key = uuid4()
        new.append(store.add_user_message(user.pk, UserMessage(key, conversation, "just now", str(key))).message)
        return page

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        monkeypatch.setattr(store, "messages_after", page_and_then_another)

        async def send(text: str) -> None:
            socket.deliver(text)

        await reader.resume(conversation, 1, send)
        hub.message(user.pk, new[0])

    assert told(user, main) == [2]


def test_a_resume_from_beyond_the_end_goes_on_from_the_end() -> None:
    user = make_user("ada")
    written = write(user, 2)

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        async def send(text: str) -> None:
            socket.deliver(text)

        assert await reader.resume(written[0].conversation, 9, send) == 2
        hub.message(user.pk, replace(written[1], seq=3))

    assert told(user, main) == [3]


def test_a_socket_that_is_gone_is_told_nothing() -> None:
    user = make_user("ada")
    written = write(user, 1)

    async def main(hub: Hub, reader: Reader, socket: Socket) -> None:
        hub.detach(reader)
        hub.message(user.pk, written[0])

    assert told(user, main) == []


def test_no_socket_gets_half_a_turn() -> None:
    user, run = make_user("ada"), uuid4()
    early, late, hub = Socket(user), Socket(user), Hub()

    async def main() -> None:
        hub.attach(early)  # type: ignore[arg-type]
        hub.event(user.pk, "agent_started", run, '{"type": "agent_started"}')
        hub.attach(late)  # type: ignore[arg-type]
        for kind in ("agent_delta", "agent_completed", "agent_delta"):
            hub.event(user.pk, kind, run, f'{{"type": "{kind}"}}')

    asyncio.run(main())
    assert [frame["type"] for frame in early.frames] == ["agent_started", "agent_delta", "agent_completed"]
    assert late.frames == []
