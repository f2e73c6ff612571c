"""Agent events on their way to sockets: numbered frames of one attempt at a turn. Pure."""

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

STARTED, COMPLETED, DELTA = "agent_started", "agent_completed", "agent_delta"


@dataclass(frozen=True, slots=True)
class Events:
    """The events of an attempt from number `start` up to, not with, `end`, as frames. Where `start` is 0 it is all
    that was shown so far, and pieces of the answer may be one frame.
    """

    run: UUID
    attempt: int
    conversation: UUID
    start: int
    end: int
    frames: tuple[str, ...]
    tool: str = ""  # the one that is in use after these
    last: bool = False  # its end, `agent_completed`, is among them

    def as_bell(self, user_id: Any) -> dict[str, Any]:
        return {
            "user": str(user_id),
            "run": str(self.run),
            "attempt": self.attempt,
            "conversation": str(self.conversation),
            "start": self.start,
            "end": self.end,
            "frames": list(self.frames),
            "tool": self.tool,
            "last": self.last,
        }

    @classmethod
    def from_bell(cls, data: dict[str, Any]) -> Self:
        """Parse a bell. Raises KeyError, TypeError and ValueError if no node of ours sent it."""
        return cls(
            UUID(data["run"]),
            int(data["attempt"]),
            UUID(data["conversation"]),
            int(data["start"]),
            int(data["end"]),
            tuple(str(text) for text in data["frames"]),
            str(data["tool"]),
            bool(data["last"]),
        )
