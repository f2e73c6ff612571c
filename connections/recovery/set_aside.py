"""What a recovery thread passes over for a while: records that can't be freed, runs that can't go on."""

from datetime import datetime, timedelta
from uuid import UUID

SET_ASIDE_SECONDS = 60.0  # a bad row needs a person; often enough to notice the repair
SET_ASIDE_MAXIMUM = 1000  # kept in memory; more than that means another fault


class SetAside:
    """In-memory list of rows to skip, each for some seconds."""

    def __init__(self) -> None:
        self._until: dict[UUID, datetime] = {}

    def add(self, pk: UUID, now: datetime, seconds: float = SET_ASIDE_SECONDS) -> None:
        if len(self._until) >= SET_ASIDE_MAXIMUM:  # drop the oldest, so that it is tried again
            del self._until[next(iter(self._until))]
        self._until[pk] = now + timedelta(seconds=seconds)

    def at(self, now: datetime) -> set[UUID]:
        """Return what is set aside at `now`. Where the database's clock was set back, nothing waits for it."""
        latest = now + timedelta(seconds=SET_ASIDE_SECONDS)
        self._until = {pk: until for pk, until in self._until.items() if now < until <= latest}
        return set(self._until)
