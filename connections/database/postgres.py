"""A connection of an engine's thread to PostgreSQL, whichever backend of Django's the project uses: its timeouts, and a
second way to set them where a pooler drops the first.
"""

import logging
import math
from typing import TYPE_CHECKING, Any

from connections.database.deadline import Deadline
from connections.database.errors import AWAY, translated
from connections.database.waiting import waiting

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper as Backend
else:
    Backend = object  # mixed into the backend of the project

logger = logging.getLogger(__name__)

STATEMENT_BEATS = 1.25  # a statement may wait a beat for a lock, and needs time for its work
DEADLINE_BEATS = 1.75  # a server that has not given up by itself by then counts as frozen
IDLE_BEATS = 2.5  # half a lease of the default five beats

# PgBouncer and Amazon's RDS Proxy refuse a connection that sends `options` with one of these phrases, unless they are
# set to leave it out silently.
REFUSED = ("startup parameter", "command-line options")

_reported: list[str] = []  # that a pooler drops the timeouts is logged once in a process


def timeouts_of(wait: float, lock: float) -> dict[str, int]:
    """The server's timeouts in milliseconds, for statements that may wait `lock` seconds for locks."""
    return {
        "lock_timeout": round(lock * 1000),
        "statement_timeout": round(wait * STATEMENT_BEATS * 1000),
        "idle_in_transaction_session_timeout": round(wait * IDLE_BEATS * 1000),
    }


def own_options(options: dict[str, Any], wait: float, lock: float) -> dict[str, Any]:
    """The OPTIONS of an engine thread's connection, from those of the project."""
    from psycopg import IsolationLevel

    timeouts = " ".join(f"-c {name}={value}" for name, value in timeouts_of(wait, lock).items())
    level = r"-c default_transaction_isolation=read\ committed"  # of single statements, outside transactions
    return {
        "target_session_attrs": "read-write",  # after a failover a name may lead to a standby
        **options,
        "isolation_level": IsolationLevel.READ_COMMITTED.value,  # of transactions
        "connect_timeout": max(2, math.ceil(wait)),  # libpq raises smaller values to 2
        "tcp_user_timeout": round(wait * 1000),
        "options": f"{options.get('options', '')} {level} {timeouts}".strip(),
    }


def refuses_options(said: str) -> bool:
    """Whether a server's answer means that a pooler takes no `options`."""
    return any(words in said for words in REFUSED)


class OwnPostgres(Backend):
    """Call `bound` after construction, and `deadline.close` at the end."""

    Database: Any
    deadline: Deadline
    _timeouts: dict[str, int]
    _options_refused = False
    _set_each_time = False  # a pooler has dropped the timeouts: set them in each transaction

    def bound(self, wait: float, lock: float) -> None:
        self._timeouts = timeouts_of(wait, lock)
        self.deadline = Deadline(self._descriptor, wait * DEADLINE_BEATS)
        self.execute_wrappers.append(self._execute_bounded)

    def _descriptor(self) -> int | None:
        connection = self.connection
        return None if connection is None or connection.closed else connection.fileno()

    def connect(self) -> None:
        with waiting():
            super().connect()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        without = {name: value for name, value in conn_params.items() if name != "options"}
        if self._options_refused:
            return super().get_new_connection(without)
        try:
            return super().get_new_connection(conn_params)
        except self.Database.OperationalError as error:
            if not refuses_options(str(error)):
                raise
        self._options_refused = True
        return super().get_new_connection(without)

    def init_connection_state(self) -> None:
        self.deadline.move()
        super().init_connection_state()
        self._set_each_time = self._in_force() != self._timeouts
        if self._set_each_time and not _reported:
            _reported.append("dropped")
            logger.warning("database_timeouts_dropped", extra={"refused": self._options_refused})

    def _in_force(self) -> dict[str, int]:
        settings = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
        rows = self.connection.execute(settings, [list(self._timeouts)]).fetchall()
        return {name: int(setting) for name, setting in rows}

    def _execute_bounded(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        try:
            return self._execute(execute, sql, params, many, context)
        except AWAY:
            self.close()  # or the end of the transaction would wait for a new connection, only to set its autocommit
            raise

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        from psycopg.pq import TransactionStatus

        self.deadline.move()
        with waiting(), translated():
            began = self.connection.info.transaction_status != TransactionStatus.IDLE
            if began or not self._set_each_time:
                return execute(sql, params, many, context)
            if self.in_atomic_block:
                self._set_for_transaction()
                return execute(sql, params, many, context)
            with self.wrap_database_errors, self.connection.transaction():
                self._set_for_transaction()
                return execute(sql, params, many, context)

    def _set_for_transaction(self) -> None:
        columns = ", ".join(["set_config(%s, %s, true)"] * len(self._timeouts))
        parameters = [word for name, value in self._timeouts.items() for word in (name, str(value))]
        with self.wrap_database_errors:
            self.connection.execute(f"SELECT {columns}", parameters)

    def _commit(self) -> None:
        self.deadline.move()
        with waiting(), translated():
            super()._commit()  # type: ignore[misc]  # not in the stubs
