"""The recorded recoveries, and the steps they took."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.choices import choices
from connections.models.querysets import OurQuerySet, RecoveryRunQuerySet
from connections.policy.states import ActorKind, Outcome, RunKind, Step


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
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
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

    objects = OurQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.step}: {self.detail or self.error}"
