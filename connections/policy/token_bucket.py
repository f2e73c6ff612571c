"""How often one user may connect to one node. Times are seconds on one monotonic clock."""

from dataclasses import dataclass, field
from uuid import UUID

MAX_RETRY_AFTER = 30.0  # seconds; the contract's bound for a rate-limited client
EARLY = 0.02  # seconds by which a client may come early: it got its time to two decimals


@dataclass(slots=True)
class TokenBucket:
    """The connect rate of one user on one node. A refused attempt takes nothing, so a retry never prolongs it.

    `tokens` may fall below zero: an admission above the soft limit costs a second token after the fact.

    Each refused client gets a retry time of its own. A device's retry time is reserved for it, unless the queue was
    reset: it is admitted then, also if somebody took its token, and it gets the same time if it asks earlier. Clients
    without a device can't be recognised, so theirs is only not given to anybody else. If a newcomer takes the token
    first, such a client is refused again, with a new time within MAX_RETRY_AFTER.
    """

    burst: int
    per_second: float
    tokens: float
    at: float
    pending: int = 0  # admissions in flight, which may still cost a second token
    # Retry times by device: a device keeps its time, and others get later ones.
    promises: dict[UUID, float] = field(default_factory=dict)
    promised_until: float = 0.0
    # Retry times that are honoured even if the token was taken meanwhile, which leaves a debt. Only those of a queue
    # that was not reset are, so that many refusals reserve no more than the rate allows.
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
        """Note that an attempt which took a token has ended. The debt is bounded, and so is the next client's wait."""
        self._refill(now)
        self.pending = max(0, self.pending - 1)
        if costs_two:
            self.tokens = max(self.tokens - 1, 1 - (MAX_RETRY_AFTER / 2) * self.per_second)

    def retry_after(self, now: float, device: UUID | None) -> float:
        """Seconds, at most MAX_RETRY_AFTER, after which an attempt finds a token.

        Retry times are two tokens apart, since an admission may cost two.
        """
        self._refill(now)
        earliest = now + max(0.0, (1 - self.tokens + self.pending) / self.per_second)
        latest = now + MAX_RETRY_AFTER
        if device is not None:
            kept = self.promises.get(device, 0.0)
            if kept > now:
                return kept - now
        slot = max(earliest, self.promised_until) + 2 / self.per_second
        if slot > latest:  # the queue is full: reset it to its head, and let the retry find what is free then
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
        """Whether it is full and no client waits, so that it may be forgotten."""
        self._refill(now)
        return self.tokens >= self.burst and not self.pending and self.promised_until <= now
