"""A manager on a fake server's socket and a fake node, for tests of one socket from accept to close."""

import asyncio
import uuid
from collections.abc import Callable

from connections.conf import Tunables
from connections.policy.admission import Admission, Handshake
from connections.policy.states import CloseReason, Refused
from connections.websocket.asgi_types import App, Message, Receive, Scope, Send
from connections.websocket.clock import NodeClock
from connections.websocket.manager import Manager

ADMITTED = Admission(live=1, soft_limit=20, ceiling=25)


class Socket:
    """A fake of the ASGI server's side of a socket. It records its messages, and whether it was cut off."""

    def __init__(self, *, blocks_on: str = "") -> None:
        self.sent: list[Message] = []
        self.transport = self  # the `servers` module finds `abort` here
        self.aborted = False
        self._blocks_on = blocks_on
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._events.put_nowait({"type": "websocket.connect"})
        self._unblocked = asyncio.Event()

    def arrive(self, message: Message) -> None:
        """Have the server report this message: a frame of the client, or the end of the socket."""
        self._events.put_nowait(message)

    async def receive(self) -> Message:
        return await self._events.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == self._blocks_on:
            await self._unblocked.wait()
            if self.aborted:
                raise ConnectionResetError
        if message["type"] == "websocket.close":
            self._events.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    def abort(self) -> None:
        self.aborted = True
        self.unblock()
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1006})

    def unblock(self) -> None:
        self._unblocked.set()

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.sent]


class Node:
    """A fake node that admits or refuses when the test sets `decision`."""

    def __init__(self) -> None:
        self.clock = NodeClock()
        self.tunables = Tunables()
        self.leaving = False
        self.asked = asyncio.Event()
        self.decision: asyncio.Future[Admission | Refused] = asyncio.get_running_loop().create_future()
        self.ended: list[tuple[CloseReason, str]] = []

    async def admit(self, manager: Manager) -> Admission | Refused:
        self.asked.set()
        return await self.decision

    def accepted(self, manager: Manager) -> None: ...

    def released(self, manager: Manager, reason: CloseReason, evidence: str) -> None:
        self.ended.append((reason, evidence))

    def retry_after(self, manager: Manager, refused: Refused) -> float:
        return 1.0

    async def written(self) -> None: ...

    def abandoned(self, manager: Manager) -> None: ...

    def probe_answered(self) -> None: ...


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until the condition holds, for 5 s at most."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def managed(
    socket: Socket, node: Node, app: App, *, kind: type[Manager] = Manager
) -> tuple[Manager, "asyncio.Task[None]"]:
    """Run an application under a manager of its own. Returns the manager and the task of the whole socket."""
    shake = Handshake(uuid.uuid4(), 1, "chat")
    manager = kind(node, {}, socket.receive, socket.send, handshake=shake, inject=True)
    return manager, asyncio.create_task(manager.run(app, {}))


async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass
