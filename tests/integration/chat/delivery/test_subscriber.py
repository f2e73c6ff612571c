"""What one socket gets when its client resumes a conversation."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DatabaseError

from connections.chat import messages
from connections.chat.delivery import subscriber as subscriber_module
from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Send, Subscriber
from connections.chat.frames import UserMessage
from connections.chat.messages import StoredMessage
from tests.support.chat_turns import Socket, seqs, write
from tests.support.rows import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def test_live_messages_wait_until_a_resume_is_done() -> None:
    user = make_user("ada")
    written = write(user, 5)
    conversation: UUID = written[0].conversation

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        async def send(text: str) -> None:
            socket.deliver(text)
            if len(socket.frames) == 1:
                hub.message(user.pk, written[4])
            await asyncio.sleep(0)

        assert await reader.resume(conversation, 0, send) == 5
        hub.message(user.pk, written[4])

    assert seqs(user, main) == [1, 2, 3, 4, 5]


def test_what_is_stored_while_an_empty_resume_ends_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("ada")
    conversation = write(user, 1)[0].conversation
    page_of, new = messages.messages_after, list[StoredMessage]()

    def page_and_then_another(*arguments: Any) -> list[StoredMessage]:
        page = page_of(*arguments)
        monkeypatch.setattr(messages, "messages_after", page_of)
        key = uuid4()
        new.append(messages.add_user_message(user.pk, UserMessage(key, conversation, "just now", str(key))).message)
        return page

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        monkeypatch.setattr(messages, "messages_after", page_and_then_another)

        await reader.resume(conversation, 1, sending(socket))
        hub.message(user.pk, new[0])

    assert seqs(user, main) == [2]


def test_a_resume_from_beyond_the_end_goes_on_from_the_end() -> None:
    user = make_user("ada")
    written = write(user, 2)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        assert await reader.resume(written[0].conversation, 9, sending(socket)) == 2
        hub.message(user.pk, replace(written[1], seq=3))

    assert seqs(user, main) == [3]


def test_a_resume_and_the_filling_of_a_gap_send_each_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "PAGE_OF_MESSAGES", 2)
    user = make_user("ada")
    written = write(user, 9)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        async def send(text: str) -> None:
            await asyncio.sleep(0.005)
            socket.deliver(text)

        hub.message(user.pk, written[0])
        hub.message(user.pk, written[3])  # a gap: what is missing is read
        await reader.resume(written[0].conversation, 1, send)

    assert seqs(user, main) == [*range(1, 10)]


def test_what_was_sent_live_is_not_sent_by_the_resume_that_asks_for_it() -> None:
    user = make_user("ada")
    written = write(user, 5)
    conversation = written[0].conversation

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        hub.message(user.pk, written[3])
        assert await reader.resume(conversation, 3, sending(socket)) == 5
        hub.message(user.pk, written[4])

    assert seqs(user, main) == [4, 5]


def test_two_resumes_on_one_socket_send_each_message_once() -> None:
    user = make_user("ada")
    conversation = write(user, 4)[0].conversation

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        ends = await asyncio.gather(*(reader.resume(conversation, after, sending(socket)) for after in (0, 2)))
        assert ends == [4, 4]

    assert seqs(user, main) == [1, 2, 3, 4]


def test_a_resume_sends_what_lies_below_the_first_live_message() -> None:
    user = make_user("ada")
    written = write(user, 5)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        hub.message(user.pk, written[4])
        assert await reader.resume(written[0].conversation, 1, sending(socket)) == 5
        assert await reader.resume(written[0].conversation, 0, sending(socket)) == 5

    assert seqs(user, main) == [5, 2, 3, 4, 1]


def test_a_resume_that_failed_half_way_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "PAGE_OF_MESSAGES", 2)
    user = make_user("ada")
    written = write(user, 7)
    page_of, reads = messages.messages_after, list[int]()

    def fails_at_the_second(*arguments: Any) -> list[StoredMessage]:
        reads.append(1)
        if len(reads) == 2:
            raise DatabaseError("broken")
        return page_of(*arguments)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        monkeypatch.setattr(messages, "messages_after", fails_at_the_second)
        hub.message(user.pk, written[5])
        with pytest.raises(DatabaseError):
            await reader.resume(written[0].conversation, 1, sending(socket))
        assert [frame["seq"] for frame in socket.of("message")] == [6, 2, 3]
        await reader.resume(written[0].conversation, 1, sending(socket))

    assert seqs(user, main) == [6, 2, 3, 4, 5, 7]


def test_what_was_offered_while_a_resume_failed_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("ada")
    written = write(user, 2)
    page_of = messages.messages_after

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        hub.message(user.pk, written[0])
        loop = asyncio.get_running_loop()

        def fails(*arguments: Any) -> list[StoredMessage]:
            monkeypatch.setattr(messages, "messages_after", page_of)
            loop.call_soon_threadsafe(hub.message, user.pk, written[1])
            raise DatabaseError("broken")

        monkeypatch.setattr(messages, "messages_after", fails)
        with pytest.raises(DatabaseError):
            await reader.resume(written[0].conversation, 1, sending(socket))

    assert seqs(user, main) == [1, 2]


def test_what_was_offered_before_a_resume_failed_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("ada")
    written = write(user, 2)
    page_of = messages.messages_after

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        def fails_once(*arguments: Any) -> list[StoredMessage]:
            monkeypatch.setattr(messages, "messages_after", page_of)
            raise DatabaseError("broken")

        hub.message(user.pk, written[0])
        monkeypatch.setattr(messages, "messages_after", fails_once)
        async with reader._reading:
            resuming = asyncio.create_task(reader.resume(written[0].conversation, 1, sending(socket)))
            await asyncio.sleep(0)
            hub.message(user.pk, written[1])  # noted, since the resume waits for the lock
        with pytest.raises(DatabaseError):
            await resuming

    assert seqs(user, main) == [1, 2]


def sending(socket: Socket) -> Send:
    async def send(text: str) -> None:
        socket.deliver(text)
        await asyncio.sleep(0)

    return send
