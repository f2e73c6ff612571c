"""The protocol of an agent: an async generator that yields thoughts, tool calls and pieces of its answer. Pure.

The agent only asks for a tool; the chat runs it and sends the result into the generator. So each call is bounded in
time, and the user sees it start and end, whatever the agent does.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Question:
    """`text` is the user's last message. `joined` counts earlier messages that waited with it, and get the same answer.
    `history` has the messages before it, as (role, text), at most the agent's `history_limit`.
    """

    text: str
    joined: int = 0
    history: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Thought:
    """One sentence that tells the user what the agent does next."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Ask the chat to run a tool. The chat sends a ToolResult into the generator."""

    tool: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer. The answer is all pieces joined."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`value` is JSON data; if `success` is False, it is a sentence for the user on what failed."""

    value: Any
    success: bool = True


Step = Thought | ToolCall | Delta


class AgentFailed(Exception):
    """The agent could not answer. The message is a sentence for the user, the cause is for the log."""


class Agent(Protocol):
    """`history_limit` is how many earlier messages of the conversation the agent wants. `introduction` tells
    the user about the agent in a sentence or two.
    """

    history_limit: int
    introduction: str

    def answer(self, question: Question) -> AsyncGenerator[Step, ToolResult | None]: ...
