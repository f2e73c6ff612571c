"""Locks of strangers: another client's open transaction holds rows or tables of ours."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg

from tests.outages.rig import Rig
from tests.outages.scenario import Fault, Scenario

RECORDS = "connections_managerrecord"
TABLES = (
    RECORDS, "connections_usergate", "connections_node", "connections_recoveryrun", "connections_runstep",
    "connections_refusal", "connections_auditentry", "chat_conversation", "chat_message", "chat_agentturn",
)  # fmt: skip
MODES = ("SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
ALL_SECONDS = (1.0, 10.0, 60.0, 600.0)
# A handshake writes a record, reads its user's gate for update and the node's row for key share.
NEEDED = {(RECORDS, mode) for mode in MODES} | {
    (table, mode)
    for table in ("connections_usergate", "connections_node")
    for mode in ("EXCLUSIVE", "ACCESS EXCLUSIVE")
}

HELD = f"SELECT id FROM {RECORDS} WHERE closed_at IS NULL"  # noqa: S608 - only our own names
ONE = f"{HELD} AND user_id = {{ada}} ORDER BY opened_at LIMIT 1 FOR UPDATE"
ALL_OF_USER = f"{HELD} AND user_id = {{ada}} FOR UPDATE"
ALL_OF_NODE = f"{HELD} AND node_id = (SELECT id FROM connections_node WHERE {{node}}) FOR UPDATE"  # noqa: S608 - only our own names
NODE = "SELECT id FROM connections_node WHERE {node} FOR UPDATE"
GATE = "SELECT id FROM connections_usergate WHERE user_id = {ada} FOR UPDATE"
USER = "SELECT id FROM auth_user WHERE id = {ada} FOR UPDATE"
RUN = "SELECT id FROM connections_recoveryrun WHERE user_id = {ada} AND finished_at IS NULL FOR UPDATE"
OPEN_RUN = (
    "INSERT INTO connections_recoveryrun (id, user_id, user_label, kind, dry_run, step, actor_kind, actor, reason,"
    " opened_at, due_at, outcome, stock, findings, error) VALUES (gen_random_uuid(), {ada}, 'u1', 'cleanup', false,"
    " 'take_stock', 'staff', 'support', 'a test', now(), now() + interval '3 s', '', '[]', '[]', '')"
)


def held_by_stranger(statement: str, *, before: str = "") -> Fault:
    """Hold what a SELECT … FOR UPDATE or a LOCK TABLE takes. `{ada}` is the touched user, `{node}` the first node."""

    @asynccontextmanager
    async def fault(rig: Rig) -> AsyncIterator[None]:
        node = f"name = '{rig.nodes[0].log.stem}' AND retired_at IS NULL AND fenced_at IS NULL"
        names = {"ada": rig.ada.id, "node": node}
        async with await psycopg.AsyncConnection.connect(rig.database.url, connect_timeout=5) as stranger:
            if before:
                await stranger.execute(before.format(**names).encode())
                await stranger.commit()
            cursor = await stranger.execute(statement.format(**names).encode())
            assert cursor.description is None or cursor.rowcount > 0, f"nothing to lock: {statement}"
            try:
                yield
            finally:
                await stranger.rollback()

    def make(rig: Rig) -> AbstractAsyncContextManager[None]:
        return fault(rig)

    return make


def _rows(
    name: str, what: str, statement: str, *, before: str = "", leave: bool = True, node: bool = False
) -> Scenario:
    return Scenario(
        name,
        f"a stranger's transaction holds {what}",
        held_by_stranger(statement, before=before),
        spares_others=not node,
        takes_leases=node,
        touched_leave=leave,
        seconds=ALL_SECONDS,
    )


def _table(table: str, mode: str) -> Scenario:
    return Scenario(
        f"{table.removeprefix('connections_').replace('_', '-')}-{mode.lower().replace(' ', '-')}",
        f"`LOCK TABLE {table} IN {mode} MODE`",
        held_by_stranger(f"LOCK TABLE {table} IN {mode} MODE"),
        spares_others=(table, mode) not in NEEDED,
        takes_leases=table == "connections_node",
        touched_leave=True,
        one_node_busy=True,
        seconds=ALL_SECONDS if (table, mode) == (RECORDS, "SHARE") else (10.0,),
    )


SCENARIOS = [
    _rows("one-record", "one record of a user whose tabs close", ONE),
    _rows("records-of-user", "all records of a user whose tabs close", ALL_OF_USER),
    _rows("records-of-node", "all records of a node", ALL_OF_NODE),
    _rows("node-row", "a node's row", NODE, node=True),
    _rows("gate", "a user's gate", GATE),
    _rows("user-row", "a user's row", USER),
    _rows("run-row", "a run's row", RUN, before=OPEN_RUN),
    *(_table(table, mode) for table in TABLES for mode in MODES),
]
