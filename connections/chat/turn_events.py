"""Agent events: numbered frames of one attempt at a turn. Pure."""

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

STARTED, COMPLETED, DELTA = "agent_started", "agent_completed", "agent_delta"


@dataclass(frozen=True, slots=True)
class Events:
    """The events `start` to `end` of an attempt, without `end`, as frames. If `start` is 0, these are all so far, and
    several pieces of the answer may be one frame.
    """

    run: UUID
    attempt: int
    conversation: UUID
    start: int
    end: int
    frames: tuple[str, ...]
    tool: str = ""  # the tool in use after these events, or empty
    last: bool = False  # `agent_completed` is among them

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
        """Parse a bell. Raises KeyError, TypeError or ValueError if it is malformed."""
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
