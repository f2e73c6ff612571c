"""The records that could not be closed for a newcomer: another one by rank is closed in their place."""

from uuid import UUID

SECONDS = 60.0  # until such a record is tried again: a bad row needs a person
MAXIMUM = 1000  # records; more than that means another fault


class Unclosable:
    """Times are time.monotonic()."""

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}

    def add(self, record_id: UUID, now: float) -> None:
        if len(self._until) >= MAXIMUM:
            del self._until[next(iter(self._until))]
        self._until[record_id] = now + SECONDS

    def ids(self, now: float) -> set[UUID]:
        self._until = {pk: until for pk, until in self._until.items() if until > now}
        return set(self._until)
