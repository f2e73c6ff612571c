"""The outbound side of one socket: send, measure whether the client reads what it is sent, and abort."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from connections.policy.states import CloseReason
from connections.websocket.asgi_types import Message, Send
from connections.websocket.clock import NodeClock
from connections.websocket.endings import end_of_transport
from connections.websocket.transport import abort_of, backlog_of, is_server_stop

logger = logging.getLogger(__name__)

BEHIND_BYTES = 1024 * 1024  # unread by a client: beyond this it gets no optional frames, which would only fill memory
BEHIND_FRAMES = 64  # the same in unfinished sends, for servers that do not report bytes
DRAIN_POLL_SECONDS = 0.05  # between two readings of the backlog


class Outbound:
    __slots__ = (
        "_abort",
        "_background",
        "_backlog",
        "_backlog_last",
        "_clock",
        "_handed",
        "_refused_code",
        "_send",
        "_send_lock",
        "_sends",
        "_server_send",
        "_undrained_since",
        "_unsent_since",
        "failed",
        "last_sent_at",
        "refusal",
        "send_blocked_since",
    )

    def __init__(self, send: Send, clock: NodeClock, server_send: Send | None = None) -> None:
        """`server_send` is the server's own `send`, if middleware has wrapped `send`."""
        self._send = send
        self._clock = clock
        self._server_send = server_send or send
        self._abort = abort_of(self._server_send)
        self._backlog = backlog_of(self._server_send)
        self._backlog_last = 0
        self._handed = 0  # bytes handed to the server since the backlog was last read
        self._undrained_since: float | None = None  # since when the backlog has not shrunk
        self._unsent_since: float | None = None  # since when a send to the server has not returned
        self._sends = 0
        self._background: set[asyncio.Task[bool]] | None = None
        # Two sends at once make uvicorn's websockets library fail while the client does not read.
        self._send_lock = asyncio.Lock()
        self.last_sent_at = clock.now()  # when the last frame was handed to the server
        self.send_blocked_since: float | None = None  # the last answer of `blocked_since`
        self.failed = False  # the server reported the end of the socket
        self.refusal = ""  # what the server said to a close of the application that it did not carry out
        self._refused_code: int | None = None

    async def forward(self, message: Message) -> None:
        """Hand one message to the server. Raises OSError when the socket has ended."""
        self._sends += 1
        if self._unsent_since is None:
            self._unsent_since = self._clock.now()
        try:
            async with self._send_lock:
                self._handed += _size_of(message)
                await self._send(message)
        except OSError:
            self.failed = True
            raise
        finally:
            self._sends -= 1
            self.last_sent_at = self._clock.now()
            self._unsent_since = self.last_sent_at if self._sends else None

    async def forward_end(self, message: Message, on_end: Callable[[], None]) -> None:
        """Forward what ends the socket on the application's side, and call `on_end`, maybe twice, without waiting for
        the client. If the server refuses the message, nothing has ended: `on_end` is not called, `refusal` says why.
        """
        # A server refuses by raising at once; Daphne takes few close codes, uvicorn those of the RFC. Otherwise it may
        # wait for the client here, and the slot must not.
        ending = asyncio.get_running_loop().call_soon(on_end)
        try:
            await self.forward(message)
        except OSError:
            raise
        except Exception as error:
            ending.cancel()
            self._refused_code = message.get("code")
            with_code = f" with {self._refused_code}" if "code" in message else ""
            self.refusal = f"the server refused its {message['type']}{with_code}: {error!r}"
            raise
        on_end()

    def end_of(self, disconnect: Message) -> tuple[CloseReason, str]:
        """What the end of the connection, as the server reports it, is recorded as if nobody has ordered it."""
        # uvicorn reports a close before it refuses its code.
        if self.refusal and disconnect.get("code") == self._refused_code:
            return CloseReason.HANDLER_FAILED, self.refusal
        return end_of_transport(disconnect, by_server=is_server_stop(self._server_send, disconnect))

    async def wait_for_drain(self, over: Callable[[], bool]) -> None:
        """Wait while the client is too far behind, unless `over()`. uvicorn makes a sender wait by itself; Daphne would
        keep every frame in memory for a client that does not read.
        """
        while self.backlog() > BEHIND_BYTES and not over():  # noqa: ASYNC110 - no server tells when that changes
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def send_within(self, sending: Awaitable[None], seconds: float | None) -> bool:
        """Await `sending` for `seconds` at most. Returns False if time ran out; True also if the socket has ended."""
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
        """Send one message in its own task, for `seconds` at most; with None, until the socket ends."""
        task = asyncio.create_task(self.send_within(self.forward(message), seconds))
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
        """Bytes that the transport still has to send; 0 if the server does not report them."""
        return 0 if self._backlog is None else self._backlog()

    def blocked_since(self, now: float) -> float | None:
        """Since when the client has read nothing; None while it reads. Call it once a tick."""
        backlog, last, handed = self.backlog(), self._backlog_last, self._handed
        self._backlog_last, self._handed = backlog, 0
        if not backlog or not last or backlog < last + handed:
            self._undrained_since = None
        elif self._undrained_since is None:
            self._undrained_since = now
        # The transport's backlog is better evidence than a send that has not returned: a client may take a large
        # frame steadily and slowly.
        self.send_blocked_since = self._undrained_since if self._backlog is not None and backlog else self._unsent_since
        return self.send_blocked_since

    def clock_set_back(self, now: float) -> None:
        self.last_sent_at = min(self.last_sent_at, now)
        if self._unsent_since is not None:
            self._unsent_since = min(self._unsent_since, now)

    def abort(self) -> None:
        """Drop the connection without a close handshake. Does nothing on an unknown server."""
        if self._abort is not None:
            self._abort()


def _size_of(message: Message) -> int:
    """Bytes of a message's payload."""
    text = message.get("text")
    if text is None:
        return len(message.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
