"""Deliver messages between tabs, nodes and the database while bells are lost, sockets end, messages are sent again and
nodes are killed: each acknowledged message is stored once and shown once, in order, and each question is answered once.
"""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from itertools import count
from typing import Any, cast
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from hypothesis import given, note
from hypothesis import strategies as st

from connections.chat import messages
from connections.chat.delivery import subscriber as subscriber_module
from connections.chat.delivery.hub import Hub
from connections.chat.executors import in_database
from connections.chat.frames import UserMessage
from connections.chat.models import AgentTurn, Conversation, Message
from connections.chat.states import TurnState
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.rows import Claimed
from connections.models import Node as NodeRow
from tests.property.delivery_clients import Bells, Client, Entry, Socket
from tests.support.rows import make_node, make_user

CLIENTS, NODES = 3, 2
LONG_AGO = timedelta(hours=1)


class World:
    """The moves of the scenario. `who` chooses the client, node or turn, and `how` a variant. A move that is impossible
    in the current state does nothing.
    """

    def __init__(self, user: User, bells: Bells) -> None:
        self.user, self.bells = user, bells
        self.clients = [Client(user) for _ in range(CLIENTS)]
        self.hubs = [Hub(cast("Any", bells)) for _ in range(NODES)]
        self.rows = [make_node() for _ in range(NODES)]
        self.claims: list[Claimed] = []
        self.numbers = count(1)

    # Clients

    async def say(self, who: int, how: int) -> None:
        """Write a message into the outbox, also without a connection, and try to send."""
        self.clients[who % CLIENTS].outbox.append(Entry(uuid4(), f"message {next(self.numbers)}"))
        await self.send(who, how)

    async def connect(self, who: int, how: int) -> None:
        client = self.clients[who % CLIENTS]
        client.drop()
        client.hub = self.hubs[how % NODES]
        client.socket = Socket(client)
        client.reader = client.hub.attach(client.socket, timezone.now())  # type: ignore[arg-type]
        if how > NODES:
            await asyncio.sleep(0.002)  # the hub may deliver messages before the client resumes
        await self.resume(client)

    async def ask_again(self, who: int, how: int) -> None:
        """Resume twice at once on one socket, also for messages that the socket was sent already."""
        client = self.clients[who % CLIENTS]
        if client.socket is not None:
            client.socket.full = False  # a resume waits until its client has taken what is on the way
        await asyncio.gather(self.resume(client, max(0, client.upto - how)), self.resume(client))

    async def resume(self, client: Client, after: int | None = None) -> None:
        if client.reader is None or client.socket is None:
            return
        # The page learns the id from its list of conversations.
        client.conversation = await in_database(Conversation.objects.values_list("id", flat=True).first)
        if client.conversation is None:
            return
        socket, after = client.socket, client.upto if after is None else after
        try:
            last = await client.reader.resume(client.conversation, after, socket.send)
        except ConnectionError:
            return
        socket.resumed(after, last)

    async def drop(self, who: int, how: int) -> None:
        self.clients[who % CLIENTS].drop()

    async def behind(self, who: int, how: int) -> None:
        socket = self.clients[who % CLIENTS].socket
        if socket is not None:
            socket.full = not socket.full

    async def send(self, who: int, how: int) -> None:
        """Send the outbox's first message. The connection may end before it is stored, delivered or acknowledged."""
        client = self.clients[who % CLIENTS]
        hub = client.hub
        if hub is None or not client.outbox:
            return
        if client.conversation is None and client is not self.clients[0]:
            return  # only the first client begins a conversation, since this test is about one
        entry, fate = client.outbox[0], ("acknowledged", "told", "stored", "lost")[how % 4]
        if fate != "lost":
            stored = await in_database(
                messages.add_user_message,
                self.user.pk,
                UserMessage(entry.key, client.conversation, entry.text, str(entry.key)),
            )
            if stored.fresh and fate != "stored":
                hub.message(self.user.pk, stored.message)
            if fate == "acknowledged":
                self.acknowledge(client, entry, stored)
        if fate != "acknowledged":
            client.drop()

    def acknowledge(self, client: Client, entry: Entry, stored: messages.Stored) -> None:
        if entry in client.outbox:
            client.outbox.remove(entry)
            client.acknowledged.append(entry)
        client.conversation = stored.message.conversation

    async def send_together(self, who: int, how: int) -> None:
        """Send the messages of two tabs at once, or one message twice at once."""
        await asyncio.gather(self.send(who, 0), self.send(who + how % 2, 0))

    # Nodes

    async def ring(self, who: int, how: int) -> None:
        self.bells.deliver(who, keep=how % 3 == 0)

    async def lose(self, who: int, how: int) -> None:
        del self.bells.waiting[: how + 1]

    async def look(self, who: int, how: int) -> None:
        await self.hubs[who % NODES]._catch_up_once(timezone.now() - LONG_AGO)

    async def crash(self, who: int, how: int) -> None:
        place = who % NODES
        dead = self.hubs[place]
        for client in self.clients:
            if client.hub is dead:
                client.drop()
        self.bells.listeners.remove(dead._on_bell)
        row = self.rows[place]
        await in_database(NodeRow.objects.filter(pk=row.pk).update, fenced_at=timezone.now())
        self.hubs[place], self.rows[place] = Hub(cast("Any", self.bells)), await in_database(make_node)

    async def claim(self, who: int, how: int) -> None:
        claimed = await in_database(turn_rows.claim, self.user.pk, self.rows[who % NODES].pk)
        if claimed is not None:
            self.claims.append(claimed)

    async def answer(self, who: int, how: int) -> None:
        """Finish any claim of a turn, also one whose node was lost in the meantime, or one that is finished already."""
        if self.claims:
            claimed = self.claims[who % len(self.claims)]
            stored = await in_database(
                turn_rows.finish, claimed.run, claimed.attempt, f"answer {claimed.run}/{claimed.attempt}"
            )
            if stored is not None and how % 3:
                self.hubs[how % NODES].message(self.user.pk, stored.message)

    async def requeue_abandoned(self, who: int, how: int) -> None:
        ended, _ = await in_database(turn_rows.requeue_abandoned, timezone.now())
        for turn in ended:
            self.hubs[how % NODES].message(self.user.pk, turn.message)

    async def take_over(self, who: int, how: int) -> None:
        """Lose the node of a claimed turn, and let another node claim it; the lost node's claim may still answer."""
        await self.claim(who, 0)
        await self.crash(who, 0)
        await self.requeue_abandoned(0, 0)
        await self.claim(who + 1, 0)

    async def rest(self, who: int, how: int) -> None:
        """Wait for all tasks of hubs and subscribers, except those that wait for a socket which is too far behind."""
        for _ in range(200):
            tasks = {task for hub in self.hubs for task in hub._tasks}
            for client in self.clients:
                if client.reader is not None and client.socket is not None and not client.socket.full:
                    tasks |= client.reader._tasks
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=1)
        raise AssertionError("the tasks of hubs and subscribers never end")

    async def heal(self) -> None:
        """Connect all clients, send all outboxes and finish all turns. Bells stay lost."""
        self.bells.waiting.clear()
        for client in self.clients:
            if client.socket is None:
                await self.connect(self.clients.index(client), 0)
            assert client.socket is not None
            client.socket.full = False
        for who, client in enumerate(self.clients):
            if client.conversation is None:
                await self.resume(client)
            while client.outbox:
                await self.send(who, 0)
        while await in_database(AgentTurn.objects.unfinished().exists):
            await self.requeue_abandoned(0, 0)
            await self.claim(0, 0)
            for which in range(len(self.claims)):
                await self.answer(which, 0)
        for _ in range(2):  # the second look delivers messages that are newer than a socket without any message yet
            for place in range(NODES):
                await self.look(place, 0)
            await self.rest(0, 0)


MOVES = (
    "say", "say", "connect", "ask_again", "drop", "behind", "send", "send_together", "ring", "ring", "lose", "look",
    "crash", "claim", "answer", "answer", "requeue_abandoned", "take_over", "rest",
)  # fmt: skip


# The first moves: all three clients open one conversation, on two nodes. A client without a conversation misses
# nothing.
BEGIN = [("connect", 0, 0), ("say", 0, 0), ("connect", 1, 1), ("connect", 2, 0)]


async def live_through(world: World, moves: list[tuple[str, int, int]]) -> None:
    for name, who, how in moves:
        note(f"{name} {who} {how}")
        move: Coroutine[Any, Any, None] = getattr(world, name)(who, how)
        await move
    await world.heal()
    for client in world.clients:
        client.drop()


def judge(world: World) -> None:
    rows = list(Message.objects.order_by("seq").values_list("seq", "role", "text", "client_id"))
    assert [seq for seq, *_ in rows] == list(range(1, len(rows) + 1))
    assert Conversation.objects.count() <= 1
    stored = [(key, text) for _, role, text, key in rows if role == "user"]
    written = [(entry.key, entry.text) for client in world.clients for entry in client.acknowledged]
    assert sorted(map(str, stored)) == sorted(map(str, written))
    for client in world.clients:
        mine = [entry.key for entry in client.acknowledged]
        assert [key for key, _ in stored if key in mine] == mine, "a client's messages changed their order"
        assert client.shown == {seq: text for seq, _, text, _ in rows}
    for turn in AgentTurn.objects.filter(state=TurnState.COMPLETED.value).select_related("answer"):
        assert turn.answer is not None
        assert turn.answer.text == f"answer {turn.id}/{turn.attempt}", "an attempt answered that had lost its turn"
    answers = [text for _, role, text, _ in rows if role == "assistant"]
    assert len(answers) == len(stored) == AgentTurn.objects.filter(answer__isnull=False).count()


@pytest.mark.django_db(transaction=True)
def test_what_is_acknowledged_is_stored_once_and_shown_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "BEHIND_SECONDS", 0.005)
    user = make_user("ada")

    @given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 5), st.integers(0, 5)), min_size=10, max_size=40))
    def scenario(moves: list[tuple[str, int, int]]) -> None:
        bells = Bells()
        try:
            world = World(user, bells)
            asyncio.run(live_through(world, [*BEGIN, *moves]))
            judge(world)
        finally:
            Conversation.objects.all().delete()
            NodeRow.objects.all().delete()

    scenario()
