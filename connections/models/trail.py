"""What is only ever appended: handshakes refused, and who did what."""

from django.conf import settings
from django.db import models
from django.db.models import F

from connections.models.choices import choices
from connections.models.nodes import Node
from connections.models.querysets import OurQuerySet
from connections.models.runs import RecoveryRun
from connections.policy.states import ActorKind, Refused


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

    objects = OurQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
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

    objects = OurQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(F("at").desc(), name="audit_at"),
            models.Index(fields=["user", "-at"], name="audit_by_user"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action}"
