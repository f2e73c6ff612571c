"""The history of a chaos run that violates no invariant, and functions that change one connection or record in it."""

from dataclasses import replace

from tests.chaos import bounds
from tests.chaos.history import (
    Ack,
    Agreement,
    Audit,
    Click,
    Closing,
    Connection,
    Counted,
    Drain,
    History,
    NodeRow,
    Record,
    Run,
    Sample,
    Stored,
    Window,
)

BEGAN = 1000.0
HEALED = BEGAN + 100
CALM = BEGAN + 50  # no fault is near this time
KILLED, FROZEN = BEGAN + 10, BEGAN + 30


def make_connection(
    number: int, *, user: str = "ada", node: str = "node-1", began: float = CALM, **fields: object
) -> Connection:
    found = Connection(
        user, number, node, f"device-{number}", 1, began, admitted=began + 0.1, manager=f"m{number}", counted=1
    )
    return replace(found, **fields)  # type: ignore[arg-type]  # the caller gives fields of a Connection


def record_of(connection: Connection, **fields: object) -> Record:
    """The record of a connection, live unless `fields` say otherwise."""
    found = Record(
        connection.manager, connection.user, "chat", f"id of {connection.node}", connection.node, connection.device,
        connection.attempt, "live", connection.began, None, None, "", "", "", "",
    )  # fmt: skip
    return replace(found, **fields)  # type: ignore[arg-type]  # the caller gives fields of a Record


def closed_record(connection: Connection, reason: str, at: float, **fields: object) -> Record:
    """The record of a connection, closed with an explanation."""
    explained = {"evidence": "as it should be", "actor_kind": "system"} | fields
    return record_of(connection, state="closed", closed=at, reason=reason, **explained)


def add_connection(history: History, connection: Connection, row: Record) -> None:
    history.connections.append(connection)
    history.records.append(row)


def good_history() -> History:
    """The history of a run in which something of every kind happened, and nothing violated an invariant."""
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
    _add_connections(history)
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


def _add_connections(history: History) -> None:
    living = make_connection(1)
    add_connection(history, living, record_of(living))
    left = make_connection(2, left=CALM + 5, leaving="closed", ended=CALM + 5.1, code=1000)
    add_connection(history, left, closed_record(left, "client_closed", CALM + 5.2))
    silent = make_connection(3, silent=CALM + 5, ended=CALM + 9)
    add_connection(history, silent, closed_record(silent, "unresponsive", CALM + 9))
    lost = make_connection(4, node="node-2", began=BEGAN, ended=KILLED, code=1006)
    add_connection(history, lost, closed_record(lost, "node_lost", KILLED + 5.5))
    reset = make_connection(
        5, user="bob", ended=CALM + 9, code=4411, closing=Closing(CALM + 9, 4411, "reset", "after", 2.5)
    )
    add_connection(history, reset, closed_record(reset, "reset", CALM + 9, run="run-1"))
    evicted = make_connection(6, ended=CALM + 9, code=4409, closing=Closing(CALM + 9, 4409, "evicted", "never", 0.0))
    ranked = "ranked first of 9 at a limit of 8, after a roll call"
    add_connection(history, evicted, closed_record(evicted, "evicted", CALM + 9, closing=CALM + 8.9, evidence=ranked))
    refusal = Closing(KILLED, 4013, "try_again", "after", 2.0)
    history.connections.append(
        make_connection(
            7, began=FROZEN + 1, node="node-3", admitted=None, manager="", closing=replace(refusal, at=FROZEN + 5)
        )
    )
    history.connections.append(make_connection(7, began=FROZEN + 8, left=FROZEN + 9, attempt=2))
    history.records.append(closed_record(history.connections[-1], "client_closed", FROZEN + 9))


def change_record(history: History, manager: str, **fields: object) -> None:
    history.records = [replace(row, **fields) if row.id == manager else row for row in history.records]  # type: ignore[arg-type]


def change_connection(history: History, manager: str, **fields: object) -> None:
    history.connections = [
        replace(found, **fields) if found.manager == manager else found  # type: ignore[arg-type]
        for found in history.connections
    ]
