"""The rows through which nodes coordinate. Only `lifecycle.py` changes the state of a manager record."""

import uuid
from datetime import datetime
from enum import StrEnum

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from connections.querysets import (
    ManagerRecordQuerySet,
    NodeQuerySet,
    RecoveryRunQuerySet,
    UserGateQuerySet,
)
from connections.states import (
    ActorKind,
    CloseReason,
    Outcome,
    ProbeMode,
    RecordState,
    Refused,
    RunKind,
    Step,
    Verdict,
)


def choices(enum: type[StrEnum]) -> list[tuple[str, str]]:
    return [(item.value, item.value.replace("_", " ")) for item in enum]


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
    def draining(self) -> bool:
        return self.drain_wanted_at is not None and self.retired_at is None and self.fenced_at is None

    @property
    def gone(self) -> bool:
        """Fenced or retired: it will never own a record again."""
        return self.fenced_at is not None or self.retired_at is not None

    def lapsed(self, now: datetime) -> bool:
        return not self.gone and self.lease_expires_at < now


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


class RecoveryRun(models.Model):
    """One recorded recovery: who, why, what was found, what was done, before and after."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="recovery_runs",
        db_constraint=False,
        db_index=False,
    )
    user_label = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=8, choices=choices(RunKind))
    dry_run = models.BooleanField(default=False)
    step = models.CharField(max_length=12, choices=choices(Step), default=Step.TAKE_STOCK)
    actor_kind = models.CharField(max_length=8, choices=choices(ActorKind))
    actor = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500)
    opened_at = models.DateTimeField()
    due_at = models.DateTimeField(help_text="The next step is not due before.")
    roll_call_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=13, blank=True, choices=choices(Outcome))
    before = models.PositiveIntegerField(null=True, blank=True)
    after = models.PositiveIntegerField(null=True, blank=True)
    soft_limit = models.PositiveIntegerField(null=True, blank=True)
    stock = models.JSONField(default=list, blank=True, help_text="Ids of the records it is about.")
    findings = models.JSONField(
        default=list, blank=True, help_text="One object a manager: id, pool, node, verdict, evidence, action."
    )
    error = models.CharField(max_length=500, blank=True)

    objects = RecoveryRunQuerySet.as_manager()

    class Meta:
        permissions = [
            ("recover_user", "Can recover a user and close managers"),
            ("reset_user", "Can close everything a user holds"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind"],
                condition=Q(finished_at__isnull=True, dry_run=False),
                name="run_one_open_per_user",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True, outcome="") | Q(finished_at__isnull=False) & ~Q(outcome=""),
                name="run_finished_has_outcome",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(finished_at__isnull=True), name="run_open"),
            models.Index(fields=["user", "-opened_at"], name="run_history"),
            models.Index(fields=["finished_at"], name="run_finished"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def shown_kind(self) -> str:
        """The kind as the contract has it: `cleanup`, `reset` or `dry_run`."""
        return "dry_run" if self.dry_run else self.kind

    @property
    def duration_ms(self) -> int:
        end = self.finished_at or timezone.now()
        return max(0, round((end - self.opened_at).total_seconds() * 1000))


class RunStep(models.Model):
    """One step a run has taken, with what it saw; `error` where it failed and the run went on."""

    run = models.ForeignKey(RecoveryRun, on_delete=models.CASCADE, related_name="steps")
    step = models.CharField(max_length=12, choices=choices(Step))
    at = models.DateTimeField()
    detail = models.CharField(max_length=500, blank=True)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.step}: {self.detail or self.error}"


class Refusal(models.Model):
    """Handshakes refused to one user by one node, one row per beat and cause."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="refusals",
        db_constraint=False,
        db_index=False,
    )
    node = models.ForeignKey(Node, null=True, on_delete=models.SET_NULL, related_name="refusals")
    cause = models.CharField(max_length=16, choices=choices(Refused))
    count = models.PositiveIntegerField(default=1)
    at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True, help_text="When a retry is expected to succeed.")

    class Meta:
        indexes = [
            models.Index(fields=["user", "-at"], name="refusal_by_user"),
            models.Index(fields=["at"], name="refusal_at"),
        ]

    def __str__(self) -> str:
        return f"{self.cause} x {self.count}"


class AuditEntry(models.Model):
    """Who did what to whom, when and why; also when it failed. Never changed, pruned only by command."""

    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=8, choices=choices(ActorKind))
    actor_user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_constraint=False,
    )
    actor = models.CharField(max_length=200, blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    action = models.CharField(max_length=40)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="audit_entries",
        db_constraint=False,
        db_index=False,
    )
    user_label = models.CharField(max_length=200, blank=True)
    target = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    outcome = models.CharField(max_length=500, blank=True)
    run = models.ForeignKey(RecoveryRun, null=True, blank=True, on_delete=models.SET_NULL, related_name="audit_entries")

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(F("at").desc(), name="audit_at"),
            models.Index(fields=["user", "-at"], name="audit_by_user"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action}"
