"""Each socket is shown a turn from its beginning to its end, by one attempt after the other, whatever is lost."""

import asyncio
import json
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.bus import Bus
from connections.chat.delivery import subscriber as subscriber_module
from connections.chat.delivery.hub import Hub
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.turn_events import COMPLETED, DELTA, STARTED, Events
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.relay import Relay
from connections.chat.turns.rows import Claimed
from tests.support.chat_turns import Socket, told, write
from tests.support.rows import make_user

pytestmark = pytest.mark.django_db(transaction=True)


class Turn:
    """A turn's events, numbered as its node does."""

    def __init__(self) -> None:
        self.run, self.conversation, self.attempt = uuid4(), uuid4(), 1
        self.frames: list[str] = []
        self.tool = ""

    def next(self, kind: str) -> Events:
        self.frames.append(json.dumps({"type": kind, "attempt": self.attempt, "number": len(self.frames)}))
        return self.numbered(len(self.frames) - 1, last=kind == COMPLETED)

    def so_far(self) -> Events:
        return self.numbered(0)

    def again(self) -> Events:
        """Begun again on another node."""
        self.attempt += 1
        self.frames = []
        return self.next(STARTED)

    def numbered(self, start: int, *, last: bool = False) -> Events:
        frames = tuple(self.frames[start:])
        return Events(self.run, self.attempt, self.conversation, start, len(self.frames), frames, self.tool, last)


def claim_turn(user: User) -> tuple[Claimed, Turn]:
    """A question of this user and its claimed turn, and the events of that turn."""
    write(user, 1)
    claimed = turn_rows.claim(user.pk, None)
    assert claimed is not None
    turn = Turn()
    turn.run, turn.conversation = claimed.run, claimed.conversation
    return claimed, turn


def shown(socket: Socket) -> list[tuple[int, int]]:
    return [(frame["attempt"], frame["number"]) for frame in socket.frames]


def test_no_socket_gets_half_a_turn() -> None:
    user, turn = make_user("ada"), Turn()
    early, late, hub = Socket(user), Socket(user), Hub(Bus())

    async def main() -> None:
        hub.attach(early, timezone.now())  # type: ignore[arg-type]
        assert hub.events(user.pk, turn.next(STARTED))
        hub.attach(late, timezone.now())  # type: ignore[arg-type]
        for kind in (DELTA, COMPLETED, DELTA):
            assert hub.events(user.pk, turn.next(kind))

    asyncio.run(main())
    assert [frame["type"] for frame in early.frames] == [STARTED, DELTA, COMPLETED]
    assert late.frames == []


def test_who_resumes_is_shown_the_turn_from_the_beginning_and_nobody_else_again() -> None:
    user, turn = make_user("ada"), Turn()
    early, late, hub = Socket(user), Socket(user), Hub(Bus())

    async def main() -> None:
        hub.attach(early, timezone.now())  # type: ignore[arg-type]
        for kind in (STARTED, DELTA):
            hub.events(user.pk, turn.next(kind))
        hub.attach(late, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, turn.so_far())
        hub.events(user.pk, turn.next(DELTA))

    asyncio.run(main())
    assert shown(early) == shown(late) == [(1, 0), (1, 1), (1, 2)]


def test_a_gap_in_the_events_is_noticed_once_and_mended_from_the_beginning() -> None:
    user, turn, hub = make_user("ada"), Turn(), Hub(Bus())
    socket = Socket(user)

    async def main() -> None:
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, turn.next(STARTED))
        turn.next(DELTA)  # lost on its way
        assert not hub.events(user.pk, turn.next(DELTA))
        assert hub.events(user.pk, turn.next(DELTA))
        hub.events(user.pk, turn.so_far())
        hub.events(user.pk, turn.next(COMPLETED))

    asyncio.run(main())
    assert shown(socket) == [(1, 0), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]


def test_a_first_attempt_shows_nothing_more_once_the_second_has_begun() -> None:
    user, turn, hub = make_user("ada"), Turn(), Hub(Bus())
    socket = Socket(user)

    async def main() -> None:
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        for _ in range(3):
            hub.events(user.pk, turn.next(DELTA))
        stale = turn.next(DELTA)
        hub.events(user.pk, turn.again())
        hub.events(user.pk, stale)
        hub.events(user.pk, turn.next(DELTA))

    asyncio.run(main())
    assert shown(socket) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]


def test_a_client_too_far_behind_for_an_event_is_shown_the_turn_when_it_has_caught_up() -> None:
    user, turn = make_user("ada"), Turn()
    written = write(user, 2)
    turn.conversation = written[0].conversation

    async def main(hub: Hub, reader: Subscriber, socket: Socket) -> None:
        hub.message(user.pk, written[0])
        hub.events(user.pk, turn.next(STARTED))
        socket.full = True
        hub.events(user.pk, turn.next(DELTA))
        hub.message(user.pk, written[1])
        await asyncio.sleep(0.1)
        socket.full = False
        hub.events(user.pk, turn.next(DELTA))

    def show(reader: Subscriber, conversation: UUID) -> None:
        assert conversation == turn.conversation
        reader.turn_cursors.events(turn.so_far())

    socket = told(user, main, show)
    assert [frame.get("seq", frame.get("number")) for frame in socket.frames] == [1, 0, 2, 0, 1, 2]


def test_a_turn_that_was_ended_for_a_lost_node_ends_for_whoever_saw_it_begin() -> None:
    user, turn = make_user("ada"), Turn()
    early, late, hub = Socket(user), Socket(user), Hub(Bus())

    async def main() -> None:
        hub.attach(early, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, turn.next(STARTED))
        hub.attach(late, timezone.now())  # type: ignore[arg-type]
        for _ in range(2):
            hub.turn_ended(user.pk, turn.run, json.dumps({"type": COMPLETED}))

    asyncio.run(main())
    assert [frame["type"] for frame in early.frames] == [STARTED, COMPLETED]
    assert late.frames == []


@pytest.mark.parametrize("how", ["begun again", "ended"])
def test_a_tool_whose_node_was_lost_is_told_to_be_done(how: str) -> None:
    user, turn, hub = make_user("ada"), Turn(), Hub(Bus())
    socket = Socket(user)

    async def main() -> None:
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, turn.next(STARTED))
        turn.tool = "my_sessions"
        hub.events(user.pk, turn.next("tool_executing"))
        turn.tool = ""
        if how == "ended":
            hub.turn_ended(user.pk, turn.run, json.dumps({"type": COMPLETED}))
        else:
            hub.events(user.pk, turn.again())

    asyncio.run(main())
    kinds = [frame["type"] for frame in socket.frames]
    assert kinds == [STARTED, "tool_executing", "tool_completed", COMPLETED if how == "ended" else STARTED]
    done = socket.frames[2]
    assert (done["tool"], done["success"], done["run"]) == ("my_sessions", False, str(turn.run))


def test_a_turn_whose_last_event_was_lost_is_told_to_be_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another node than the one that ran it."""
    monkeypatch.setattr(subscriber_module, "LOST_END_SECONDS", 0.05)
    user, hub = make_user("ada"), Hub(Bus())
    socket = Socket(user)
    claimed, shows = claim_turn(user)

    async def main() -> None:
        Relay(hub, {})
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, shows.next(STARTED))
        ended = await asyncio.to_thread(turn_rows.finish, claimed.run, claimed.attempt, "the answer")
        assert ended is not None
        hub.message(user.pk, ended.message)
        async with asyncio.timeout(5):
            while not socket.of(COMPLETED):
                await asyncio.sleep(0.01)

    asyncio.run(main())
    (done,) = socket.of(COMPLETED)
    assert (done["text"], done["seq"], done["success"], done["run"]) == ("the answer", 2, True, str(claimed.run))


def test_the_end_of_a_turn_waits_for_a_client_that_is_too_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "BEHIND_SECONDS", 0.02)
    user, hub = make_user("ada"), Hub(Bus())
    socket = Socket(user)
    claimed, turn = claim_turn(user)

    async def main() -> None:
        Relay(hub, {})
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, turn.next(STARTED))
        ended = await asyncio.to_thread(turn_rows.finish, claimed.run, claimed.attempt, "the answer")
        assert ended is not None
        socket.full = True
        hub.events(user.pk, turn.next(COMPLETED))
        await asyncio.sleep(0.1)
        socket.full = False
        async with asyncio.timeout(5):
            while not socket.of(COMPLETED):
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert [frame["text"] for frame in socket.of(COMPLETED)] == ["the answer"]


def test_a_turn_of_which_events_were_lost_still_ends() -> None:
    user, turn, hub = make_user("ada"), Turn(), Hub(Bus())
    socket = Socket(user)

    async def main() -> None:
        hub.attach(socket, timezone.now())  # type: ignore[arg-type]
        hub.events(user.pk, turn.next(STARTED))
        turn.next(DELTA)  # its bell is lost
        assert not hub.events(user.pk, turn.next(DELTA))
        assert hub.events(user.pk, turn.next(DELTA))  # the node is asked once
        hub.turn_ended(user.pk, turn.run, json.dumps({"type": COMPLETED}))

    asyncio.run(main())
    assert [frame["type"] for frame in socket.frames] == [STARTED, COMPLETED]
