"""The queue of frames that a client sent and its application has not taken. Bounded in frames and in bytes.

It knows since when the application has left frames waiting, also for one that never receives, or gives up receiving.
"""

import asyncio

from connections.websocket.asgi_types import Message
from connections.websocket.clock import NodeClock


class Inbound:
    """Call `put` and `receive` on the event loop. Only one `receive` may wait at a time."""

    __slots__ = ("_clock", "_frames", "_reader", "busy_since", "bytes", "waiting_since")

    def __init__(self, clock: NodeClock) -> None:
        self._clock = clock
        self._frames: list[Message] = []  # not a deque: an empty one has 760 bytes, and most queues are empty
        self._reader: asyncio.Future[None] | None = None
        self.bytes = 0
        # When the handler last ceased to wait for a frame: it took one, gave up waiting, or was not started yet.
        # None while it waits.
        self.busy_since: float | None = clock.now()
        self.waiting_since: float | None = None  # since when frames wait of which the handler has taken none

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def frames_waiting(self) -> int:
        """How many frames of the client wait. The connect is none: an application that only sends need not take it."""
        if self._frames and self._frames[0]["type"] == "websocket.connect":
            return len(self._frames) - 1
        return len(self._frames)

    def put(self, message: Message) -> None:
        self._frames.append(message)
        self.bytes += size_of(message)
        if self.waiting_since is None and self.frames_waiting:
            self.waiting_since = self._clock.now()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def overflow(self, message: Message, *, frames: int, size: int) -> str:
        """Describe what is queued if one more frame would exceed `frames` or `size` bytes; else return an empty string.
        An empty queue takes a frame of any size.
        """
        if len(self) >= frames:
            return f"{len(self)} frames"
        if len(self) and self.bytes + size_of(message) > size:
            return f"{self.bytes} bytes"
        return ""

    def clock_set_back(self, now: float) -> None:
        if self.busy_since is not None:
            self.busy_since = min(self.busy_since, now)
        if self.waiting_since is not None:
            self.waiting_since = min(self.waiting_since, now)

    def clear(self) -> None:
        self._frames.clear()
        self.bytes = 0
        self.waiting_since = None

    async def receive(self) -> Message:
        """The ASGI `receive` of the application. A handler that calls it is done with the frame before."""
        self.busy_since = None
        try:
            while not self._frames:
                self._reader = asyncio.get_running_loop().create_future()
                try:
                    await self._reader
                finally:
                    self._reader = None
            return self._take()
        finally:  # also if the application has cancelled this call: from now on it waits for no frame
            self.busy_since = self._clock.now()

    def _take(self) -> Message:
        message = self._frames.pop(0)
        self.bytes -= size_of(message)
        self.waiting_since = self._clock.now() if self.frames_waiting else None
        return message


def size_of(message: Message) -> int:
    """Characters or bytes of a frame's payload; 0 for connect and disconnect."""
    text = message.get("text")
    return len(text) if text is not None else len(message.get("bytes") or b"")
