"""Refuse handshakes before the database is asked: the node is full, or the user connects too often."""

import logging
import threading
import time
from typing import Any

from connections.conf import Tunables
from connections.policy.admission import Admission, Handshake
from connections.policy.states import Refused
from connections.policy.token_bucket import TokenBucket
from connections.websocket import closing
from connections.websocket.registry import Registry

logger = logging.getLogger(__name__)

BUCKETS = 10_000  # users whose connect rate is remembered; above this, idle ones are forgotten


class ConnectLimiter:
    """Refuse connects in memory. Use it on the event loop. Times are time.monotonic(): clients wait in real time, while
    the node's own clock stops with the process.
    """

    def __init__(self, values: Tunables, registry: Registry) -> None:
        self.refusals = Refusals()
        self._tunables = values
        self._registry = registry
        self._buckets: dict[Any, TokenBucket] = {}

    def refuse(self, handshake: Handshake) -> Refused | None:
        """Reason to refuse, or None. If None, call `settle` with the outcome."""
        refused = self._reason_to_refuse(handshake)
        if refused is not None and self._tunables.observe:
            logger.warning("would_refuse", extra={"user": str(handshake.user_id), "cause": refused})
            return None
        return refused

    def _reason_to_refuse(self, handshake: Handshake) -> Refused | None:
        if len(self._registry) >= self._tunables.node_capacity:
            return Refused.NODE_FULL
        if not self._bucket(handshake.user_id).take(time.monotonic(), handshake.device):
            return Refused.RATE_LIMITED
        return None

    def settle(self, handshake: Handshake, decision: Admission | Refused) -> None:
        """Note the outcome of a handshake not refused here. One admitted over the limit may pay a second token."""
        costs_two = isinstance(decision, Admission) and decision.costs_two
        self._bucket(handshake.user_id).settle(time.monotonic(), costs_two=costs_two)

    def retry_after(self, handshake: Handshake, refused: Refused) -> float:
        """Return the retry time of a refused client, and count the refusal for the next beat."""
        if refused is Refused.RATE_LIMITED:
            wait = self._bucket(handshake.user_id).retry_after(time.monotonic(), handshake.device)
        else:
            wait = closing.draw_retry_after(refused)
        if refused is not Refused.REPLACED:  # a newer connect of its own device took its place: nothing was refused
            self.refusals.add(handshake.user_id, refused, wait)
        return wait

    def _bucket(self, user_id: Any) -> TokenBucket:
        bucket = self._buckets.get(user_id)
        if bucket is None:
            now, rate = time.monotonic(), self._tunables.connect_rate
            if len(self._buckets) >= BUCKETS:
                self._buckets = {u: b for u, b in self._buckets.items() if not b.idle(now)}
            bucket = self._buckets[user_id] = TokenBucket.full(rate.burst, rate.per_second, now)
        return bucket


class Refusals:
    """Refused handshakes since the last beat, by user and cause."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[Any, Refused], tuple[int, float]] = {}

    def add(self, user_id: Any, cause: Refused, retry_after: float) -> None:
        until = time.monotonic() + retry_after
        with self._lock:
            count, latest = self._counts.get((user_id, cause), (0, 0.0))
            self._counts[user_id, cause] = (count + 1, max(latest, until))

    def take(self) -> dict[tuple[Any, Refused], tuple[int, float]]:
        with self._lock:
            counts, self._counts = self._counts, {}
            return counts

    def give_back(self, counts: dict[tuple[Any, Refused], tuple[int, float]]) -> None:
        with self._lock:
            for key, (count, until) in counts.items():
                now_count, now_until = self._counts.get(key, (0, 0.0))
                self._counts[key] = (now_count + count, max(now_until, until))
