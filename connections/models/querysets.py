"""Read sets: named for what they are, so that every reader counts the same way."""

from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db import models
from django.db.models import Q

from connections.models.routing import alias


class OurQuerySet(models.QuerySet[Any]):
    """Reads from the database that it writes to, whatever replicas a project's routers read from."""

    @property
    def db(self) -> str:
        return self._db or alias()  # type: ignore[attr-defined]  # Django's, set by `using`


class NodeQuerySet(OurQuerySet):
    def holding(self) -> Self:
        """Neither fenced nor retired: may own records."""
        return self.filter(fenced_at=None, retired_at=None)

    def lapsed(self, now: datetime) -> Self:
        return self.holding().filter(lease_expires_at__lt=now)

    def alive(self, now: datetime) -> Self:
        return self.holding().filter(lease_expires_at__gte=now)

    def witnesses(self, now: datetime, *, lease: timedelta, late: timedelta) -> Self:
        """Steady nodes that are not late now: their word is good that the database was reachable.

        A renewal that lies ahead by more than `late` is from before the clock was set back, and says nothing.
        """
        on_time = (now - late, now + late)
        return self.holding().filter(renewed_at__range=on_time, steady_since__lte=now - lease)


class ManagerRecordQuerySet(OurQuerySet):
    """States are told by what is null, which a constraint ties to `state`: so the partial indexes serve everywhere."""

    def held(self) -> Self:
        return self.filter(closed_at__isnull=True)

    def counted(self) -> Self:
        return self.filter(closed_at__isnull=True, closing_at__isnull=True)

    def closing(self) -> Self:
        return self.filter(closed_at__isnull=True, closing_at__isnull=False)

    def closed(self) -> Self:
        return self.filter(closed_at__isnull=False)

    def probe_wanted(self) -> Self:
        return self.filter(probe_wanted_at__isnull=False, probe_answered_at__isnull=True)

    def on(self, node_id: UUID) -> Self:
        return self.filter(node_id=node_id)


class UserGateQuerySet(OurQuerySet):
    def overridden(self, now: datetime) -> Self:
        return self.filter(soft_limit__isnull=False).filter(Q(expires_at=None) | Q(expires_at__gt=now))


class RecoveryRunQuerySet(OurQuerySet):
    def open(self) -> Self:
        return self.filter(finished_at=None)
