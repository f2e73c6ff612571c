"""Statements a second of an idle node: one node with few sockets and one with many, measured at the same time.

PostgreSQL counts every statement, including BEGIN and COMMIT, with pg_stat_statements.
"""

import asyncio
import re
import resource
from collections import Counter

from benchmarks import client
from benchmarks.report import Table
from benchmarks.routes import CHAT
from benchmarks.stage import Kind, Stage
from tests.support.databases import Database
from tests.support.servers import Server

SHOWN = 5  # kinds of statement, those that differ most


def statements(stage: Stage, kind: Kind) -> Table:
    sizes = stage.sizes
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < sizes.many_sockets + 500:
        raise RuntimeError(
            f"{sizes.many_sockets} sockets need a file limit of {sizes.many_sockets + 500} (ulimit -n); it is {soft}."
        )
    columns = ["idle sockets", "statements a second", "of the first", "aim"]
    table = Table(f"Statements of an idle node ({kind}, {sizes.statements_window:g} s)", columns)
    with stage.database("postgresql") as small, stage.database("postgresql") as large:
        for database in (small, large):
            name = database.query("SELECT current_database()")[0][0]
            database.query("CREATE EXTENSION pg_stat_statements")
            database.query(f"ALTER DATABASE {name} SET pg_stat_statements.track = 'all'")
        nodes = [
            (sizes.few_sockets, small, stage.server(small, kind)),
            (sizes.many_sockets, large, stage.server(large, kind)),
        ]
        with stage.servers(*(server for _, _, server in nodes)):
            counted = asyncio.run(_counts(stage, nodes))
    first = counted[0].total()
    for (sockets, _, _), counts in zip(nodes, counted, strict=True):
        a_second = f"{counts.total() / sizes.statements_window:.2f}"
        compared = counts is not counted[0]
        table.rows.append(
            [f"{sockets:,}", a_second, f"{counts.total() / first:.2f}" if compared else "", "1" if compared else ""]
        )
        table.raw.append({"sockets": sockets, "statements": dict(counts)})
    more = counted[1] - counted[0]
    if more:
        kinds = ", ".join(f"{count} × {name}" for name, count in more.most_common(SHOWN))
        table.notes.append(f"With {sizes.many_sockets:,} sockets there were more of: {kinds}.")
    return table


async def _counts(stage: Stage, nodes: list[tuple[int, Database, Server]]) -> list[Counter[str]]:
    """For each node, how often each kind of statement ran in the same window."""
    for sockets, database, server in nodes:
        await client.connect_many(server.ws_url + CHAT, stage.cookies(database), sockets)
    await asyncio.sleep(stage.sizes.settle)
    before = [_calls(database) for _, database, _ in nodes]
    await asyncio.sleep(stage.sizes.statements_window)
    after = [_calls(database) for _, database, _ in nodes]
    return [late - early for late, early in zip(after, before, strict=True)]


def _calls(database: Database) -> Counter[str]:
    """Calls so far by kind, without the statements of the benchmark itself."""
    rows = database.query(
        "SELECT s.query, s.calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
        " WHERE d.datname = current_database() AND strpos(s.query, 'pg_stat_statements') = 0"
    )
    calls: Counter[str] = Counter()
    for query, count in rows:
        calls[_kind(query)] += count
    return calls


def _kind(query: str) -> str:
    """Verb and table of a statement, as `UPDATE connections_node`; without a table, its first 40 characters."""
    verb = query.split(None, 1)[0].upper()
    table = re.search(r'(?:FROM|UPDATE|INTO)\s+"?(\w+)"?', query)
    return f"{verb} {table[1]}" if table else " ".join(query.split())[:40]
