"""A turn under way on this node: what it has shown so far, and the time it has."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from django.utils import timezone

from connections.chat.agents.protocol import ToolCall, ToolResult
from connections.chat.events import COMPLETED, DELTA, Events
from connections.chat.store import Step
from connections.chat.turns import Claimed
from connections.chat.wire import frame


class Live:
    """`tell` is called with each event as it comes. Event loop only."""

    def __init__(self, turn: Claimed, tell: Callable[["Live", Events], None]) -> None:
        self.turn = turn
        self.began = time.monotonic()
        self.stopped = False
        self._limit: asyncio.Timeout | None = None
        self._tell = tell
        self._count = 0
        self._frames: list[str] = []  # of all events but the pieces
        self._pieces: list[str] = []
        self.steps: list[Step] = []  # that are done

    def event(self, kind: str, **fields: Any) -> None:
        text = self._frame(kind, event_id=uuid4(), timestamp=timezone.now(), **fields)
        self._frames.append(text)
        self._next(text, last=kind == COMPLETED)

    def thought(self, text: str) -> None:
        self.event("agent_thinking", thought=text)
        self.steps.append({"thought": text})

    def tool_begins(self, call: ToolCall) -> None:
        self.event("tool_executing", tool=call.tool, parameters=dict(call.parameters))

    def tool_ended(self, call: ToolCall, result: ToolResult, milliseconds: int) -> None:
        outcome = {"result": result.value, "success": result.success, "duration_ms": milliseconds}
        self.event("tool_completed", tool=call.tool, **outcome)
        self.steps.append({"tool": call.tool, "parameters": dict(call.parameters), **outcome})

    def delta(self, piece: str) -> None:
        self._pieces.append(piece)
        self._next(self._frame(DELTA, text=piece))

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def so_far(self) -> Events:
        """Everything, for whoever missed the beginning."""
        pieces = (self._frame(DELTA, text=self.text),) if self._pieces else ()
        return self._numbered(0, (*self._frames, *pieces))

    def _next(self, text: str, *, last: bool = False) -> None:
        self._count += 1
        self._tell(self, self._numbered(self._count - 1, (text,), last=last))

    def _numbered(self, start: int, frames: tuple[str, ...], *, last: bool = False) -> Events:
        turn = self.turn
        return Events(turn.run, turn.attempt, turn.conversation, start, self._count, frames, last)

    def _frame(self, kind: str, **fields: Any) -> str:
        return frame(kind, run=self.turn.run, conversation=self.turn.conversation, **fields)

    # Its time

    @asynccontextmanager
    async def limited(self, seconds: float) -> AsyncIterator[None]:
        """The time it has, which ends at once if its user stops it. Raises TimeoutError."""
        try:
            async with asyncio.timeout(0 if self.stopped else seconds) as self._limit:
                yield
        finally:
            self._limit = None

    def stop(self) -> None:
        """Its user wants no answer any more. Too late if the answer is being stored."""
        self.stopped = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    def milliseconds(self) -> int:
        return round((time.monotonic() - self.began) * 1000)
