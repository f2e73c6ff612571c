"""The records that stand for managers, and the gates under which they are counted."""

import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from connections.models.choices import choices
from connections.models.nodes import Node
from connections.models.querysets import ManagerRecordQuerySet, UserGateQuerySet
from connections.policy.states import ActorKind, CloseReason, ProbeMode, RecordState, Verdict


class ManagerRecord(models.Model):
    """The row that stands for a manager. The one source of truth for counts."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="manager_records",
        # Without it somebody's lock on a user row can't delay a batch of admissions.
        db_constraint=False,
        db_index=False,
    )
    pool = models.CharField(max_length=50)
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="records", db_index=False)
    state = models.CharField(max_length=8, choices=choices(RecordState), default=RecordState.LIVE)

    device = models.UUIDField(null=True, blank=True)
    attempt = models.BigIntegerField(default=0)
    session_fingerprint = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the session key.")
    ip = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)

    opened_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    last_active_at = models.DateTimeField()
    overdue_since = models.DateTimeField(null=True, blank=True)
    busy_since = models.DateTimeField(null=True, blank=True)
    turn_since = models.DateTimeField(null=True, blank=True, help_text="An agent turn is in flight.")

    probe_wanted_at = models.DateTimeField(null=True, blank=True)
    probe_mode = models.CharField(max_length=6, blank=True, choices=choices(ProbeMode))
    probe_answered_at = models.DateTimeField(null=True, blank=True)
    probe_verdict = models.CharField(max_length=12, blank=True, choices=choices(Verdict))
    probe_evidence = models.CharField(max_length=300, blank=True)

    closing_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(max_length=20, blank=True, choices=choices(CloseReason))
    evidence = models.CharField(max_length=500, blank=True)
    actor_kind = models.CharField(max_length=8, blank=True, choices=choices(ActorKind))
    actor = models.CharField(max_length=200, blank=True)
    run = models.ForeignKey(
        "RecoveryRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="closed_records"
    )
    sweep_error = models.CharField(max_length=300, blank=True)
    sweep_retry_at = models.DateTimeField(null=True, blank=True)

    objects = ManagerRecordQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        constraints = [
            models.CheckConstraint(
                condition=(
                    Q(state=RecordState.LIVE, close_reason="", closing_at=None, closed_at=None)
                    | Q(state=RecordState.CLOSING, closing_at__isnull=False, closed_at=None) & ~Q(close_reason="")
                    | Q(state=RecordState.CLOSED, closed_at__isnull=False) & ~Q(close_reason="") & ~Q(actor_kind="")
                ),
                name="record_state_explained",
            )
        ]
        # By what is null, and not by `state`: SQLite takes no partial index for a condition on a bound parameter.
        indexes = [
            # Admission, runs and the console: what a user holds.
            models.Index(
                # `closed_at` again as a column, or SQLite prefers the longer history to it.
                fields=["user", "closed_at", "pool"],
                condition=Q(closed_at__isnull=True),
                name="record_held_by_user",
            ),
            # The sweep and reconcile: what a node holds.
            models.Index(fields=["node"], condition=Q(closed_at__isnull=True), name="record_held_by_node"),
            # A node's pass over its flagged records, each beat.
            models.Index(
                fields=["node"], condition=Q(closed_at__isnull=True, closing_at__isnull=False), name="record_closing"
            ),
            models.Index(
                fields=["node"],
                condition=Q(probe_wanted_at__isnull=False, probe_answered_at__isnull=True),
                name="record_probe_wanted",
            ),
            # The console's timeline, and history's end.
            models.Index(fields=["user", "-opened_at"], name="record_history"),
            models.Index(fields=["closed_at"], condition=Q(closed_at__isnull=False), name="record_closed"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class UserGate(models.Model):
    """One row per user and pool, which every admission and eviction locks. It also holds the override."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="gates", db_constraint=False
    )
    pool = models.CharField(max_length=50)
    soft_limit = models.PositiveIntegerField(null=True, blank=True, help_text="Override; empty: the default.")
    expires_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    set_by = models.CharField(max_length=200, blank=True)
    # What the route says its limits are, so that the sweep and the console count by the same numbers.
    route_soft_limit = models.PositiveIntegerField(null=True, blank=True, editable=False)
    route_burst = models.PositiveIntegerField(null=True, blank=True, editable=False)

    objects = UserGateQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        verbose_name = "user limit"
        constraints = [
            models.UniqueConstraint(fields=["user", "pool"], name="gate_user_pool"),
            models.CheckConstraint(
                condition=Q(soft_limit__isnull=True) | Q(soft_limit__gte=1), name="gate_soft_limit_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.pool}"

    def limit_at(self, now: datetime, default: int) -> int:
        """The soft limit in force: the override if it has not expired, else the route's, else `default`."""
        if self.soft_limit is not None and (self.expires_at is None or self.expires_at > now):
            return self.soft_limit
        return default if self.route_soft_limit is None else self.route_soft_limit
