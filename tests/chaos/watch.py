"""Read the database directly, past the relays: the counted records of each user, at each admission and ten times a
second, and all rows at the end.
"""

import threading
import time
from collections import Counter
from typing import Any

import psycopg

from tests.chaos.history import Audit, Counted, History, NodeRow, Record, Run, Sample, Stored
from tests.support.databases import Database

SAMPLE_SECONDS = 0.1

# The trigger is deferred to the commit, when the rows that the admission evicts are written too. A statement in a
# function sees what is committed when it begins, and the gate lets the admissions of one user and pool commit one by
# one.
NOTE_ADMISSIONS = """
CREATE TABLE chaos_admission (user_id bigint, pool text, counted int, at timestamptz);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos_admission
  SELECT NEW.user_id, NEW.pool, count(*), clock_timestamp() FROM connections_managerrecord
  WHERE user_id = NEW.user_id AND pool = NEW.pool AND closed_at IS NULL AND closing_at IS NULL;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER chaos_note AFTER INSERT ON connections_managerrecord
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chaos_note();
"""

COUNTED = """
SELECT u.username, r.pool, count(*) FROM connections_managerrecord r JOIN auth_user u ON u.id = r.user_id
WHERE r.closed_at IS NULL AND r.closing_at IS NULL GROUP BY 1, 2
"""
HELD = "SELECT id FROM connections_managerrecord WHERE closed_at IS NULL"
RUNS_OPEN = "SELECT count(*) FROM connections_recoveryrun WHERE finished_at IS NULL"

ADMISSIONS = """
SELECT u.username, a.pool, a.counted, extract(epoch FROM a.at)::float8 FROM chaos_admission a
JOIN auth_user u ON u.id = a.user_id
"""
RECORDS = """
SELECT r.id::text, coalesce(u.username, ''), r.pool, r.node_id::text, n.name, coalesce(r.device::text, ''), r.attempt,
       r.state, extract(epoch FROM r.opened_at)::float8, extract(epoch FROM r.closing_at)::float8,
       extract(epoch FROM r.closed_at)::float8, r.close_reason, r.evidence, r.actor_kind, coalesce(r.run_id::text, '')
FROM connections_managerrecord r JOIN connections_node n ON n.id = r.node_id LEFT JOIN auth_user u ON u.id = r.user_id
"""
NODES = """
SELECT id::text, name, extract(epoch FROM started_at)::float8, extract(epoch FROM renewed_at)::float8,
       extract(epoch FROM fenced_at)::float8, extract(epoch FROM retired_at)::float8 FROM connections_node
"""
RUNS = """
SELECT id::text, user_label, kind, dry_run, actor_kind, extract(epoch FROM opened_at)::float8,
       extract(epoch FROM finished_at)::float8, outcome FROM connections_recoveryrun
"""
AUDIT = "SELECT action, user_label, reason, outcome FROM connections_auditentry"
MESSAGES = """
SELECT u.username, m.conversation_id::text, m.seq, coalesce(m.client_id::text, '') FROM chat_message m
JOIN chat_conversation c ON c.id = m.conversation_id JOIN auth_user u ON u.id = c.user_id
"""
STORED = "SELECT conversation_id::text, count(*) FROM chat_message GROUP BY conversation_id"


def note_admissions(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(NOTE_ADMISSIONS)


class Sampler(threading.Thread):
    """Reads the counts again and again. While the database is away, it tries to connect again."""

    def __init__(self, database: Database, history: History) -> None:
        super().__init__(name="samples", daemon=True)
        self._url = database.url
        self._history = history
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection:
                    self._sample(connection)
            except psycopg.OperationalError:
                self._ending.wait(SAMPLE_SECONDS)

    def _sample(self, connection: psycopg.Connection[Any]) -> None:
        while not self._ending.wait(SAMPLE_SECONDS):
            began = time.time()
            counted = {(user, pool): number for user, pool, number in connection.execute(COUNTED)}
            self._history.samples.append(Sample(began, counted))

    def stop(self) -> None:
        self._ending.set()
        self.join(10)


def held(database: Database) -> set[str]:
    return {str(row[0]) for row in database.query(HELD)}


def runs_open(database: Database) -> int:
    return int(database.query(RUNS_OPEN)[0][0])


def stored(database: Database) -> dict[str, int]:
    """How many messages each conversation has."""
    return {str(conversation): int(count) for conversation, count in database.query(STORED)}


def read_rows(database: Database, history: History) -> None:
    """Read all rows at the end of the run."""
    history.admissions = [Counted(*row) for row in database.query(ADMISSIONS)]
    history.records = [Record(*row) for row in database.query(RECORDS)]
    history.nodes = [NodeRow(*row) for row in database.query(NODES)]
    history.runs = [Run(*row) for row in database.query(RUNS)]
    history.audit = [Audit(*row) for row in database.query(AUDIT)]
    history.messages = [Stored(*row) for row in database.query(MESSAGES)]


def note_listed(listed: list[dict[str, Any]], nodes: list[dict[str, Any]], history: History) -> None:
    """Record how many managers the commands `list_managers` and `list_nodes` printed."""
    history.agreement.listed = dict(Counter(manager["username"] for manager in listed))
    history.agreement.by_node = {node["id"]: node["managers"] for node in nodes if node["managers"]}
