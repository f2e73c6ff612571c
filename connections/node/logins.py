"""Close the managers whose account or session has ended. In threads of their own, for which nothing of the node waits:
a session engine that hangs delays what is known of sessions, and nothing else.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Any

from django.contrib.auth import get_user_model
from django.core.cache import close_caches
from django.db import close_old_connections, router

from connections import database, metrics
from connections.database.worker import WorkerThread
from connections.node.parts import CloseOrder, NodeParts
from connections.node.session_engine import session_engine
from connections.policy.states import CloseReason
from connections.recovery.budget import Budget
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

SLICE = 500  # managers whose users are read, or whose sessions are asked for, in one go
PAUSE_BEATS = 0.25  # between two rounds of one pass: an engine that is asked one by one is not asked all the time


class Logins:
    """The two checks of a node, each with its thread: one of accounts, one of sessions."""

    def __init__(self, parts: NodeParts) -> None:
        self._checks = (
            LoginCheck(parts, "accounts", ended_accounts),
            LoginCheck(parts, "sessions", ended_sessions, batches=lambda: session_engine().batches),
        )
        beat = parts.tunables.beat_seconds
        self._threads = [WorkerThread(c.name, c.round, c.next_round, beat_seconds=beat) for c in self._checks]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def check(self, user_id: str) -> None:
        """Have the user's managers checked now, before all others. From any thread."""
        for check, thread in zip(self._checks, self._threads, strict=True):
            check.ask(user_id)
            thread.ring()

    def stop(self) -> None:
        """Have the threads end, without waiting for them: one may hang in its engine."""
        for thread in self._threads:
            thread.stop(0)


class LoginCheck:
    """The rounds of one check. Each `reconcile_seconds` all managers get in line; a round takes slices of the line for
    a beat at most, and the next round goes on.

    `ended_among` yields an order for each of these managers whose log-in has ended. What it raises is no evidence of
    that. `batches` says whether it takes many at once; otherwise each manager is a slice.
    """

    def __init__(
        self,
        parts: NodeParts,
        name: str,
        ended_among: Callable[[list[Manager]], Iterator[CloseOrder]],
        *,
        batches: Callable[[], bool] = lambda: True,
        budget: Callable[[float], Budget] = Budget,
    ) -> None:
        self.name = name
        self._parts = parts
        self._ended_among = ended_among
        self._batches = batches
        self._budget = budget
        self._asked: SimpleQueue[str] = SimpleQueue()
        self._line: deque[Manager] = deque()
        self._due_at = time.monotonic() + parts.tunables.reconcile_seconds
        self._alone = 0  # so many of the line are checked one by one: together they could not be
        self._failed = False  # in this round

    def ask(self, user_id: str) -> None:
        """Have the next round begin with this user's managers. From any thread."""
        self._asked.put(user_id)

    def round(self) -> None:
        """Check slices of the line, for a beat at most."""
        close_old_connections()  # the project's users and sessions may be in databases of its own
        self._line_up()
        budget, self._failed = self._budget(self._parts.tunables.beat_seconds), False
        while self._line:
            self._check_slice()
            if budget.spent:
                break
        if not self._line:
            database.throw_away()  # between two passes the thread needs no connection
            close_caches()

    def next_round(self) -> float:
        """Seconds until the next round, unless `ask` and a bell bring it forward."""
        if self._line:
            return self._parts.tunables.beat_seconds * PAUSE_BEATS
        return max(0.0, self._due_at - time.monotonic())

    def _line_up(self) -> None:
        now, everybody = time.monotonic(), self._parts.registry.all()
        if not self._line and now >= self._due_at:
            self._due_at = now + self._parts.tunables.reconcile_seconds
            self._line.extend(everybody)
        users: set[str] = set()
        while not self._asked.empty():
            users.add(self._asked.get_nowait())
        if users:
            self._line.extendleft(m for m in everybody if str(m.user_id) in users)

    def _check_slice(self) -> None:
        some = list(islice(self._line, SLICE if self._batches() and not self._alone else 1))
        managers = [m for m in some if m.admission is not None and not m.closing]
        database.idle()  # an engine may wait for a store of its own
        try:
            orders = list(self._ended_among(managers)) if managers else []
        except (*database.AWAY, database.Busy):
            raise  # nobody has left the line: the next round goes on here
        except Exception:  # an engine raises whatever its store does; then nobody's session counts as ended
            if len(some) > 1:
                self._alone = len(some)
                return
            if not self._failed:
                self._failed = True
                logger.exception("login_not_checked", extra={"check": self.name, "manager": str(some[0].id)})
            orders = []
        for _ in some:
            self._line.popleft()
        self._alone = max(0, self._alone - len(some))
        self._parts.order_closes(orders)
        metrics.drift.labels("session").inc(len(orders))


def ended_accounts(managers: list[Manager]) -> Iterator[CloseOrder]:
    """Order those of these managers closed whose user was deleted, deactivated or has a new password."""
    model = get_user_model()
    # A replica may not have the user of a moment ago.
    users: dict[Any, Any] = model._default_manager.using(router.db_for_write(model)).in_bulk(
        {manager.user_id for manager in managers}
    )
    hashes: dict[Any, set[str]] = {}
    for manager in managers:
        user = users.get(manager.user_id)
        if user is None:
            yield manager, CloseReason.SESSION_ENDED, "the account was deleted"
        elif not user.is_active:
            yield manager, CloseReason.ACCOUNT_DISABLED, "the account was deactivated"
        elif manager.session_hash:
            if user.pk not in hashes:
                hashes[user.pk] = {user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()}
            if manager.session_hash not in hashes[user.pk]:
                yield manager, CloseReason.SESSION_ENDED, "the password was changed"


def ended_sessions(managers: list[Manager]) -> Iterator[CloseOrder]:
    """Order those of these managers closed whose session was ended or has expired."""
    bound = [manager for manager in managers if manager.handshake.session_key]
    if bound:
        existing = session_engine().existing({manager.handshake.session_key for manager in bound})
        for manager in bound:
            if manager.handshake.session_key not in existing:
                yield manager, CloseReason.SESSION_ENDED, "the session was ended"
