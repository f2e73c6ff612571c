"""What one socket gets when its client resumes a conversation."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from connections.chat import messages
from connections.chat.delivery import subscriber as subscriber_module
from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Subscriber
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

        async def send(text: str) -> None:
            socket.deliver(text)

        await reader.resume(conversation, 1, send)
        hub.message(user.pk, new[0])

    assert seqs(user, main) == [2]


def test_a_resume_from_beyond_the_end_goes_on_from_the_end() -> None:
    user = make_user("ada")
    written = write(user, 2)

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        async def send(text: str) -> None:
            socket.deliver(text)

        assert await reader.resume(written[0].conversation, 9, send) == 2
        hub.message(user.pk, replace(written[1], seq=3))

    assert seqs(user, main) == [3]


def test_a_resume_and_a_fill_of_one_conversation_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "PAGE_OF_MESSAGES", 2)
    user = make_user("ada")
    written = write(user, 9)
    conversation = written[0].conversation

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        async def send(text: str) -> None:
            await asyncio.sleep(0.005)
            socket.deliver(text)

        hub.message(user.pk, written[0])
        hub.message(user.pk, written[4])  # a gap: what is missing is read
        await reader.resume(conversation, 1, send)

    told = seqs(user, main)
    assert told == [*range(1, 10), *range(2, 10)]
