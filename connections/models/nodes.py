"""The nodes, each with its lease and its fence."""

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q

from connections.models.querysets import NodeQuerySet
from connections.policy.node_state import NodeState, node_state


class Node(models.Model):
    """One server process incarnation and its lease. Lease and fence are columns of one row, so that they exclude
    each other on every database."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=255)
    host = models.CharField(max_length=255, blank=True)
    pid = models.PositiveIntegerField(default=0)
    serves = models.BooleanField(default=True, help_text="False for a command that only needs a vote.")
    capacity = models.PositiveIntegerField(default=0, help_text="Sockets it takes; 0: none.")
    sockets = models.PositiveIntegerField(default=0, help_text="Sockets it had at its last beat.")
    started_at = models.DateTimeField()
    renewed_at = models.DateTimeField()
    lease_expires_at = models.DateTimeField()
    steady_since = models.DateTimeField(help_text="Since when no renewal came late.")
    drain_wanted_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    fenced_at = models.DateTimeField(null=True, blank=True)
    fenced_evidence = models.CharField(max_length=300, blank=True)

    objects = NodeQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        permissions = [("drain_node", "Can ask a node to drain")]
        constraints = [
            models.CheckConstraint(
                condition=Q(fenced_at__isnull=True) | Q(retired_at__isnull=True),
                name="node_fenced_or_retired",
            )
        ]
        indexes = [
            models.Index(
                fields=["lease_expires_at"],
                condition=Q(fenced_at__isnull=True, retired_at__isnull=True),
                name="node_holding",
            ),
            models.Index(fields=["name", "-started_at"], name="node_by_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def gone(self) -> bool:
        """Fenced or retired: it will never own a record again."""
        return self.fenced_at is not None or self.retired_at is not None

    def state_at(self, now: datetime, late_seconds: float) -> NodeState:
        """Return the node's state at `now`, on the database's clock. `late_seconds` is that of the tunables."""
        return node_state(self, now, late_seconds)
