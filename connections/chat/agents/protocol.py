"""What an agent is: an async generator that thinks aloud, asks for tools and streams its answer. Pure.

The agent only asks for a tool; the chat runs it and sends the result back into the generator. So every call is
bounded in time and reported to the user from its beginning to its end, whatever the agent does.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """`text` is the user's last message. `joined`: how many earlier ones came while the agent was busy. `before`: what
    was said in the conversation until then, as (role, text), for an agent that `remembers`.
    """

    text: str
    joined: int = 0
    before: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """One sentence on what the agent is about to do, for the user to read."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Ask to use a tool. The generator is sent a ToolResult."""

    tool: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer. The answer is all of them in a row."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`value` is plain JSON data; where `success` is False it is a sentence that says why."""

    value: Any
    success: bool = True


Step = Thought | ToolCall | Delta


class AgentFailed(Exception):
    """The agent could not answer. The message is a sentence for the user, the cause is for the log."""


class Agent(Protocol):
    """`remembers`: how many earlier messages of the conversation it wants to be told. `introduction`: what a user
    should know of it, in a sentence or two.
    """

    remembers: int
    introduction: str

    def answer(self, question: Question) -> AsyncGenerator[Step, ToolResult | None]: ...
