"""A turn that runs on this node: the events it has sent, and its time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django.utils import timezone

from connections.chat.agents.protocol import ToolCall, ToolResult
from connections.chat.frames import frame
from connections.chat.messages import Step
from connections.chat.turn_events import COMPLETED, DELTA, Events
from connections.chat.turns.rows import Claimed


class RunningTurn:
    """`tell` is called with each event. Use it on the event loop."""

    def __init__(self, turn: Claimed, tell: Callable[["RunningTurn", Events], None]) -> None:
        self.turn = turn
        self.began = time.monotonic()
        self.over = False  # its time is over: what the agent still yields is ignored
        self.steps: list[Step] = []  # completed steps
        self._stopped = asyncio.Event()
        self._tell = tell
        self._count = 0
        self._frames: list[str] = []  # frames of all events except text pieces
        self._pieces: list[str] = []
        self._tool = ""  # the tool in use, or empty

    def event(self, kind: str, **fields: Any) -> None:
        text = self._frame(kind, event_id=uuid4(), timestamp=timezone.now(), **fields)
        self._frames.append(text)
        self._next(text, last=kind == COMPLETED)

    def thought(self, text: str) -> None:
        self.event("agent_thinking", thought=text)
        self.steps.append({"thought": text})

    def tool_begins(self, call: ToolCall) -> None:
        self._tool = call.tool
        self.event("tool_executing", tool=call.tool, parameters=dict(call.parameters))

    def tool_ended(self, call: ToolCall, result: ToolResult, milliseconds: int) -> None:
        self._tool = ""
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
        """All events so far, for a socket that missed the beginning."""
        pieces = (self._frame(DELTA, text=self.text),) if self._pieces else ()
        return self._numbered(0, (*self._frames, *pieces))

    def _next(self, text: str, *, last: bool = False) -> None:
        self._count += 1
        self._tell(self, self._numbered(self._count - 1, (text,), last=last))

    def _numbered(self, start: int, frames: tuple[str, ...], *, last: bool = False) -> Events:
        turn = self.turn
        return Events(turn.run, turn.attempt, turn.conversation, start, self._count, frames, self._tool, last)

    def _frame(self, kind: str, **fields: Any) -> str:
        return frame(kind, run=self.turn.run, conversation=self.turn.conversation, **fields)

    # Its time

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Stop the turn: its user cancelled it, or another node took it over. Too late once the answer is stored."""
        self._stopped.set()

    async def wait(self, agent: "asyncio.Task[None]", seconds: float) -> bool:
        """Wait until the agent is done. False if it was stopped, or has not ended within `seconds`."""
        stop = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({agent, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        self.over = not agent.done()
        return agent.done()

    def milliseconds(self) -> int:
        return round((time.monotonic() - self.began) * 1000)
