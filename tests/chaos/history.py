"""What a chaos run has recorded, as plain facts for the judges. Times are seconds of this machine's clock, as from
`time.time`. PostgreSQL runs on the same machine, so the times in its rows are of the same clock.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tests.chaos.schedule import Fault, Kind

EVER = float("inf")
LAG = "lag"  # the kind of a window in which the process of the clients was too late to answer

Leaving = Literal["", "closed", "vanished", "gave_up"]


@dataclass
class Closing:
    """A `closing` frame that a client got."""

    at: float
    code: int
    reason: str
    reconnect: str
    retry_after: float


@dataclass
class Connection:
    """A client's attempt to connect and, if it succeeded, its socket until the end, as the client saw it."""

    user: str
    tab: int
    node: str
    device: str
    attempt: int
    began: float
    admitted: float | None = None  # when `ready` came
    manager: str = ""
    counted: int = 0  # `live` in the `ready` frame
    silent: float | None = None  # since when the client answers nothing, as its page hangs or its machine is gone
    left: float | None = None  # when the client closed or cut it
    leaving: Leaving = ""
    closing: Closing | None = None
    ended: float | None = None
    code: int | None = None
    failed: str = ""  # why the handshake failed without a WebSocket

    @property
    def open(self) -> bool:
        return self.admitted is not None and self.ended is None and self.silent is None


@dataclass
class Window:
    """A fault from its beginning to its repair. `target` is as in `Fault`, or the name of a user whose gates are
    locked; a lag has none.
    """

    kind: str
    target: str
    began: float
    ended: float = EVER

    def overlaps(self, start: float, end: float) -> bool:
        return self.began <= end and start <= self.ended


@dataclass
class Click:
    """A POST of staff. A `status` of 0 means that no answer came."""

    at: float
    action: str
    user: str
    token: str  # the reason in the form, which no other click has
    node: str
    status: int = 0
    answered: float = 0.0


@dataclass
class Ack:
    user: str
    client_id: str
    conversation: str
    seq: int


@dataclass
class Drain:
    """A node that was sent SIGTERM, and its exit code; None if it had to be killed."""

    node: str
    began: float
    ended: float = EVER
    code: int | None = None


@dataclass
class Record:
    """A manager record at the end of the run."""

    id: str
    user: str
    pool: str
    node: str  # the id of its node's row
    node_name: str
    device: str
    attempt: int
    state: str
    opened: float
    closing: float | None
    closed: float | None
    reason: str
    evidence: str
    actor_kind: str
    run: str

    @property
    def freed(self) -> float:
        """When the record ceased to take a slot."""
        return min(self.closing or EVER, self.closed or EVER)


@dataclass
class NodeRow:
    id: str
    name: str
    started: float
    renewed: float
    fenced: float | None
    retired: float | None


@dataclass
class Run:
    id: str
    user: str
    kind: str
    dry: bool
    actor_kind: str
    opened: float
    finished: float | None
    outcome: str


@dataclass
class Audit:
    action: str
    user: str
    reason: str
    outcome: str


@dataclass
class Stored:
    """A message of the chat at the end of the run. `client_id` is empty for the agent's messages."""

    user: str
    conversation: str
    seq: int
    client_id: str


@dataclass
class Counted:
    """How many counted records a user had in a pool when an admission was committed."""

    user: str
    pool: str
    counted: int
    at: float


@dataclass
class Sample:
    """How many counted records each user had at a moment, by (user, pool)."""

    at: float
    counted: dict[tuple[str, str], int]


@dataclass
class Agreement:
    """Records and sockets after the last repair, at `healed`. `at` is when they agreed, None if they never did."""

    healed: float = 0.0
    at: float | None = None
    held: set[str] = field(default_factory=set)
    sockets: set[str] = field(default_factory=set)
    waiting: int = 0  # tabs that want a connection and have none
    runs_open: int = 0
    listed: dict[str, int] = field(default_factory=dict)  # how many managers of each user `list_managers` prints
    by_node: dict[str, int] = field(default_factory=dict)  # how many managers `list_nodes` prints for each node's id
    stored: dict[str, int] = field(default_factory=dict)  # messages of each conversation, before the last resumes
    read: dict[str, list[int]] = field(default_factory=dict)  # the numbers a socket got, up to a resume from 0


@dataclass
class History:
    seed: int
    soft_limit: int
    burst: int
    faults: list[Fault] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    clicks: list[Click] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)  # the client ids of all messages that clients have sent
    acks: list[Ack] = field(default_factory=list)
    delivery_errors: list[str] = field(default_factory=list)  # in words: messages that came twice, late, or not at all
    drains: list[Drain] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)  # in words: nodes that ended without a signal of a fault
    samples: list[Sample] = field(default_factory=list)
    admissions: list[Counted] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    nodes: list[NodeRow] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    audit: list[Audit] = field(default_factory=list)
    messages: list[Stored] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)
    logs: dict[str, str] = field(default_factory=dict)  # of each node

    @property
    def ceiling(self) -> int:
        return self.soft_limit + self.burst

    def open_window(self, kind: str, target: str) -> Window:
        window = Window(kind, target, time.time())
        self.windows.append(window)
        return window

    def during(self, start: float, end: float, kinds: Iterable[str], target: str | None = None) -> bool:
        """Whether a fault of one of these kinds, on this target if one is named, went on between `start` and `end`."""
        wanted = {str(kind) for kind in kinds}
        return any(
            window.kind in wanted and target in (None, window.target) and window.overlaps(start, end)
            for window in self.windows
        )

    def connections_by_attempt(self) -> dict[tuple[str, int], Connection]:
        return {(connection.device, connection.attempt): connection for connection in self.connections}

    def counts(self) -> dict[str, int]:
        """The figures for the report."""
        admitted = sum(connection.admitted is not None for connection in self.connections)
        return {
            "handshakes": len(self.connections),
            "admitted": admitted,
            "faults": len(self.faults),
            "records": len(self.records),
            "acknowledged": len(self.acks),
            "stored": sum(message.client_id != "" for message in self.messages),
            "clicks": len(self.clicks),
            "runs": len(self.runs),
            "fenced": sum(node.fenced is not None for node in self.nodes),
            "times this process was late itself": sum(window.kind == LAG for window in self.windows),
        }


NODE_AWAY = (Kind.KILL, Kind.DRAIN, Kind.FREEZE)
DATABASE_AWAY = (Kind.DATABASE_RESTART, Kind.DATABASE_FREEZE)
NODE_WITHOUT_DATABASE = (Kind.CUT_DATABASE, Kind.HOLD_DATABASE)
CLIENTS_AWAY = (Kind.CUT_CLIENTS, Kind.HOLD_CLIENTS)
