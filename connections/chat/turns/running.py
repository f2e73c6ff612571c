"""A turn that runs on this node: its events so far, and whether it was stopped."""

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
    """`on_event` is called with each event. Use it on the event loop."""

    def __init__(self, turn: Claimed, on_event: Callable[["RunningTurn", Events], None]) -> None:
        self.turn = turn
        self.began = time.monotonic()
        self.discarded = False  # stopped or out of time: what the agent still yields is ignored
        self.steps: list[Step] = []  # completed steps
        self._stopped = asyncio.Event()
        self._on_event = on_event
        self._emitted = 0
        self._frames: list[str] = []  # frames of all events except text pieces
        self._pieces: list[str] = []
        self._tool = ""  # the tool in use, or empty

    def event(self, kind: str, **fields: Any) -> None:
        text = self._frame(kind, event_id=uuid4(), timestamp=timezone.now(), **fields)
        self._frames.append(text)
        self._emit(text, last=kind == COMPLETED)

    def thought(self, text: str) -> None:
        self.event("agent_thinking", thought=text)
        self.steps.append({"thought": text})

    def tool_started(self, call: ToolCall) -> None:
        self._tool = call.tool
        self.event("tool_executing", tool=call.tool, parameters=dict(call.parameters))

    def tool_ended(self, call: ToolCall, result: ToolResult, milliseconds: int) -> None:
        self._tool = ""
        outcome = {"result": result.value, "success": result.success, "duration_ms": milliseconds}
        self.event("tool_completed", tool=call.tool, **outcome)
        self.steps.append({"tool": call.tool, "parameters": dict(call.parameters), **outcome})

    def delta(self, piece: str) -> None:
        self._pieces.append(piece)
        self._emit(self._frame(DELTA, text=piece))

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def so_far(self) -> Events:
        """All events so far, for a socket that has not been sent the first ones."""
        pieces = (self._frame(DELTA, text=self.text),) if self._pieces else ()
        return self._events(0, (*self._frames, *pieces))

    def _emit(self, text: str, *, last: bool = False) -> None:
        self._emitted += 1
        self._on_event(self, self._events(self._emitted - 1, (text,), last=last))

    def _events(self, start: int, frames: tuple[str, ...], *, last: bool = False) -> Events:
        turn = self.turn
        return Events(turn.run, turn.attempt, turn.conversation, start, self._emitted, frames, self._tool, last)

    def _frame(self, kind: str, **fields: Any) -> str:
        return frame(kind, run=self.turn.run, conversation=self.turn.conversation, **fields)

    # Stopping

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Stop the turn, since its user cancelled it or another node took it over. No effect once the agent is done."""
        self._stopped.set()

    async def wait(self, agent: "asyncio.Task[None]", seconds: float) -> bool:
        """Wait until the agent is done. Returns False if the turn was stopped, or `seconds` are over."""
        stop = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({agent, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        self.discarded = not agent.done()
        return agent.done()

    def milliseconds(self) -> int:
        return round((time.monotonic() - self.began) * 1000)
