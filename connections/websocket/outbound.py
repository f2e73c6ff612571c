"""The outbound side of one socket: send, measure whether the client takes what it is sent, and cut it off."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from connections.websocket.asgi_types import Message, Send
from connections.websocket.clock import NodeClock
from connections.websocket.transport import abort_of, backlog_of

logger = logging.getLogger(__name__)

BEHIND_BYTES = 1024 * 1024  # a client this far behind gets no optional frames: they would only fill memory
BEHIND_FRAMES = 64  # the same in frames being sent, for servers that do not report bytes
ROOM_SECONDS = 0.05  # between two looks at the backlog


class Outbound:
    __slots__ = (
        "_abort",
        "_background",
        "_backlog",
        "_backlog_last",
        "_clock",
        "_full_since",
        "_handed",
        "_one_at_a_time",
        "_send",
        "_sends",
        "_since",
        "failed",
        "last_sent_at",
        "send_blocked_since",
    )

    def __init__(self, send: Send, clock: NodeClock, server_send: Send | None = None) -> None:
        """`server_send` is the server's own, if other middleware has wrapped `send`."""
        self._send = send
        self._clock = clock
        self._abort = abort_of(server_send or send)
        self._backlog = backlog_of(server_send or send)
        self._backlog_last = 0
        self._handed = 0  # bytes handed to the server since the backlog was last looked at
        self._full_since: float | None = None  # since when the client has taken nothing of the backlog
        self._since: float | None = None  # since when the server has not taken a message
        self._sends = 0
        self._background: set[asyncio.Task[bool]] | None = None
        # Two at once make uvicorn's library fail while the client does not read.
        self._one_at_a_time = asyncio.Lock()
        self.last_sent_at = clock.now()  # when the last frame was handed to the server
        self.send_blocked_since: float | None = None  # the last answer of `blocked_since`
        self.failed = False  # the server reported the end of the socket

    async def forward(self, message: Message) -> None:
        """Hand one message to the server. Raises OSError when the socket has ended."""
        self._sends += 1
        if self._since is None:
            self._since = self._clock.now()
        try:
            async with self._one_at_a_time:
                self._handed += _size_of(message)
                await self._send(message)
        except OSError:
            self.failed = True
            raise
        finally:
            self._sends -= 1
            self.last_sent_at = self._clock.now()
            self._since = self.last_sent_at if self._sends else None

    async def wait_for_drain(self, over: Callable[[], bool]) -> None:
        """Wait while the client is too far behind, unless `over()`. uvicorn makes a sender wait; Daphne accepts every
        frame, and would keep them in memory for a client that does not read.
        """
        while self.backlog() > BEHIND_BYTES and not over():  # noqa: ASYNC110 - no server tells when that changes
            await asyncio.sleep(ROOM_SECONDS)

    async def bounded(self, sending: Awaitable[None], seconds: float | None) -> bool:
        """Await a send of ours. False if the client did not take it in time; True also if the socket has ended."""
        try:
            async with asyncio.timeout(seconds):
                await sending
        except TimeoutError:
            return False
        except (OSError, RuntimeError) as error:
            # uvicorn reports an ended socket in these two ways; a disconnect follows.
            logger.debug("send_after_end: %r", error)
            self.failed = True
        return True

    def send_in_background(self, message: Message, seconds: float | None) -> None:
        """Send one message in a task of its own, for `seconds` at most; None: until the socket ends."""
        task = asyncio.create_task(self.bounded(self.forward(message), seconds))
        if self._background is None:
            self._background = set()
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def stop(self) -> None:
        """Cancel the sends in the background."""
        for task in self._background or ():
            task.cancel()

    @property
    def behind(self) -> bool:
        """Whether the client is too far behind for an optional frame."""
        return self.backlog() > BEHIND_BYTES or len(self._background or ()) >= BEHIND_FRAMES

    def backlog(self) -> int:
        """Bytes that the client has not taken yet; 0 if the server does not report them."""
        return 0 if self._backlog is None else self._backlog()

    def blocked_since(self, now: float) -> float | None:
        """Since when the client has taken nothing; None while it takes frames. Call it once a tick."""
        backlog, last, handed = self.backlog(), self._backlog_last, self._handed
        self._backlog_last, self._handed = backlog, 0
        if not backlog or not last or backlog < last + handed:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        # The transport's backlog is better evidence than a send that has not returned: a client may take a large
        # frame steadily and slowly.
        self.send_blocked_since = self._full_since if self._backlog is not None and backlog else self._since
        return self.send_blocked_since

    def clock_set_back(self, now: float) -> None:
        self.last_sent_at = min(self.last_sent_at, now)
        if self._since is not None:
            self._since = min(self._since, now)

    def cut(self) -> None:
        """Drop the connection at once, if the server is a known one."""
        if self._abort is not None:
            self._abort()


def _size_of(message: Message) -> int:
    """Bytes of a message's payload."""
    text = message.get("text")
    if text is None:
        return len(message.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
