"""How often one user may connect to one node. Times are seconds on one monotonic clock."""

from dataclasses import dataclass, field
from uuid import UUID

MAX_RETRY_AFTER = 30.0  # seconds; the contract's bound for a rate limited client
EARLY = 0.02  # seconds that a client may come before its time: it was told two decimals


@dataclass(slots=True)
class TokenBucket:
    """The connect rate of one user on one node. A refused attempt takes nothing, so a retry never prolongs it.

    `tokens` may fall below zero: an admission above the soft limit costs a second token after the fact.

    A refused client is told a time. To a device that time is a promise (but for a queue that began anew): it is let
    in then, whoever came in between, and is told the same time if it asks before. A client without a device can't be
    told from others: its time is only reserved, so that nobody else was told it. If somebody who was told nothing
    takes the token first, it is refused again, and told a new time, again within MAX_RETRY_AFTER.
    """

    burst: int
    per_second: float
    tokens: float
    at: float
    pending: int = 0  # admissions under way, which may still cost a second token
    # Who was told to come back when: a device keeps its place, others are staggered.
    promises: dict[UUID, float] = field(default_factory=dict)
    promised_until: float = 0.0
    # Promises are kept, also when somebody who came in between took the token: they leave a debt. Only those of a
    # queue that has not begun anew are, so that many refusals give no more rights than the rate allows.
    rights: dict[UUID, float] = field(default_factory=dict)
    rights_until: float = 0.0

    @classmethod
    def full(cls, burst: int, per_second: float, now: float) -> "TokenBucket":
        return cls(burst, per_second, float(burst), now)

    def _refill(self, now: float) -> None:
        if now > self.at:
            self.tokens = min(float(self.burst), self.tokens + (now - self.at) * self.per_second)
            self.at = now

    def take(self, now: float, device: UUID | None = None) -> bool:
        self._refill(now)
        if self.tokens < 1 and not self._was_promised(now, device):
            return False
        self.tokens -= 1
        self.pending += 1
        return True

    def _was_promised(self, now: float, device: UUID | None) -> bool:
        if device is None or self.rights.get(device, float("inf")) > now + EARLY:
            return False
        del self.rights[device]
        return True

    def settle(self, now: float, *, costs_two: bool) -> None:
        """An attempt that took a token has ended. The debt is bounded, so that the wait of the next one is too."""
        self._refill(now)
        self.pending = max(0, self.pending - 1)
        if costs_two:
            self.tokens = max(self.tokens - 1, 1 - (MAX_RETRY_AFTER / 2) * self.per_second)

    def retry_after(self, now: float, device: UUID | None) -> float:
        """Seconds, at most MAX_RETRY_AFTER, after which an attempt finds a token.

        Each refused client gets a time of its own, two tokens apart, since it may cost two.
        """
        self._refill(now)
        earliest = now + max(0.0, (1 - self.tokens + self.pending) / self.per_second)
        latest = now + MAX_RETRY_AFTER
        if device is not None:
            kept = self.promises.get(device, 0.0)
            if kept > now:
                return kept - now
        slot = max(earliest, self.promised_until) + 2 / self.per_second
        if slot > latest:  # the queue is full: start again at its head, a retry finds what is free then
            slot = min(latest, earliest + 2 / self.per_second)
        self.promised_until = slot
        if device is not None:
            self.promises = {d: at for d, at in self.promises.items() if at > now}
            self.promises[device] = slot
            if slot > self.rights_until:
                self.rights_until = slot
                self.rights = {d: at for d, at in self.rights.items() if at > now - MAX_RETRY_AFTER}
                self.rights[device] = slot
        return max(0.0, slot - now)

    def idle(self, now: float) -> bool:
        """Full again and nobody waits: may be forgotten."""
        self._refill(now)
        return self.tokens >= self.burst and not self.pending and self.promised_until <= now
