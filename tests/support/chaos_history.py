"""A history of a chaos run in which everything went well, and ways to change one thing in it."""

from dataclasses import replace

from tests.chaos import bounds
from tests.chaos.history import (
    Ack,
    Agreement,
    Audit,
    Click,
    Counted,
    Drain,
    History,
    Line,
    NodeRow,
    Record,
    Run,
    Sample,
    Stored,
    Told,
    Window,
)

BEGAN = 1000.0
HEALED = BEGAN + 100
CALM = BEGAN + 50  # nothing is done to anybody around here
KILLED, FROZEN = BEGAN + 10, BEGAN + 30


def line(number: int, *, user: str = "ada", node: str = "node-1", began: float = CALM, **fields: object) -> Line:
    found = Line(
        user, number, node, f"device-{number}", 1, began, admitted=began + 0.1, manager=f"m{number}", counted=1
    )
    return replace(found, **fields)  # type: ignore[arg-type]  # a test says what it means


def record(its: Line, **fields: object) -> Record:
    """Live, unless told otherwise."""
    found = Record(
        its.manager, its.user, "chat", f"id of {its.node}", its.node, its.device, its.attempt, "live", its.began,
        None, None, "", "", "", "",
    )  # fmt: skip
    return replace(found, **fields)  # type: ignore[arg-type]  # the same


def closed(its: Line, reason: str, at: float, **fields: object) -> Record:
    explained = {"evidence": "as it should be", "actor_kind": "system"} | fields
    return record(its, state="closed", closed=at, reason=reason, **explained)


def add(history: History, its: Line, row: Record) -> None:
    history.lines.append(its)
    history.records.append(row)


def good() -> History:
    """A run in which something of everything happened, and all of it well."""
    history = History(1, soft_limit=bounds.SOFT_LIMIT, burst=bounds.BURST)
    history.windows = [
        Window("kill", "node-2", KILLED, KILLED + 5),
        Window("freeze", "node-3", FROZEN, FROZEN + 6),
    ]
    history.nodes = [
        NodeRow("id of node-1", "node-1", BEGAN, HEALED, None, None),
        NodeRow("id of node-2", "node-2", BEGAN, KILLED, KILLED + 5, None),
        NodeRow("id of node-3", "node-3", BEGAN, FROZEN, FROZEN + 5, None),
    ]
    living = line(1)
    add(history, living, record(living))
    left = line(2, left=CALM + 5, leaving="closed", ended=CALM + 5.1, code=1000)
    add(history, left, closed(left, "client_closed", CALM + 5.2))
    silent = line(3, silent=CALM + 5, ended=CALM + 9)
    add(history, silent, closed(silent, "unresponsive", CALM + 9))
    lost = line(4, node="node-2", began=BEGAN, ended=KILLED, code=1006)
    add(history, lost, closed(lost, "node_lost", KILLED + 5.5))
    reset = line(5, user="bob", ended=CALM + 9, code=4411, told=Told(CALM + 9, 4411, "reset", "after", 2.5))
    add(history, reset, closed(reset, "reset", CALM + 9, run="run-1"))
    evicted = line(6, ended=CALM + 9, code=4409, told=Told(CALM + 9, 4409, "evicted", "never", 0.0))
    ranked = "ranked first of 9 at a limit of 8, after a roll call"
    add(history, evicted, closed(evicted, "evicted", CALM + 9, closing=CALM + 8.9, evidence=ranked))
    refusal = Told(KILLED, 4013, "try_again", "after", 2.0)
    history.lines.append(
        line(7, began=FROZEN + 1, node="node-3", admitted=None, manager="", told=replace(refusal, at=FROZEN + 5))
    )
    history.lines.append(line(7, began=FROZEN + 8, left=FROZEN + 9, attempt=2))
    history.records.append(closed(history.lines[-1], "client_closed", FROZEN + 9))
    history.runs = [Run("run-1", "bob", "reset", False, "staff", CALM + 8.5, CALM + 10, "recovered")]
    history.clicks = [Click(CALM + 8, "reset", "bob", "token-1", "node-1", 303, CALM + 8.5)]
    history.audit = [Audit("reset", "bob", "token-1", "opened")]
    history.sent = {"c1", "c2"}
    history.acks = [Ack("ada", "c1", "tea", 1), Ack("ada", "c1", "tea", 1)]
    history.messages = [Stored("ada", "tea", 1, "c1"), Stored("ada", "tea", 2, "")]
    history.drains = [Drain("node-1", BEGAN, BEGAN + 3, 0)]
    history.admissions = [Counted("ada", "chat", 9, CALM)]
    history.samples = [
        Sample(CALM + 1, {("ada", "chat"): 9}),
        Sample(CALM + 2, {("ada", "chat"): 8}),
        Sample(HEALED, {("ada", "chat"): 1}),
    ]
    history.agreement = Agreement(
        HEALED, HEALED + 3, held={"m1"}, sockets={"m1"}, listed={"ada": 1}, by_node={"id of node-1": 1},
        read={"tea": [1, 2]},
    )  # fmt: skip
    return history


def change(history: History, manager: str, **fields: object) -> None:
    history.records = [replace(row, **fields) if row.id == manager else row for row in history.records]  # type: ignore[arg-type]


def change_line(history: History, manager: str, **fields: object) -> None:
    history.lines = [replace(its, **fields) if its.manager == manager else its for its in history.lines]  # type: ignore[arg-type]
