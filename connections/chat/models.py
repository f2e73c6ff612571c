"""Conversations, their messages in order, and the agent's turns."""

import uuid
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from connections.chat.limits import TURN_GRACE_SECONDS
from connections.chat.states import FINISHED, UNFINISHED, Role, TurnState
from connections.models import choices
from connections.models.querysets import OurQuerySet


class Conversation(models.Model):
    """`last_seq` is the highest sequence number assigned. To add a message, lock this row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="conversations", db_index=False
    )
    title = models.CharField(max_length=80)
    last_seq = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = OurQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        indexes = [
            models.Index(fields=["user", "-updated_at"], name="conversation_by_user"),
            models.Index(fields=["-created_at"], name="conversation_created"),
            models.Index(fields=["-updated_at"], name="conversation_updated"),
        ]

    def __str__(self) -> str:
        return self.title


class Message(models.Model):
    """One message, never changed. `client_id` is the sender's idempotency key."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages", db_index=False)
    seq = models.PositiveBigIntegerField()
    role = models.CharField(max_length=9, choices=choices(Role))
    text = models.TextField()
    # Only user messages have these two. `client_id` is unique over all of a sender's conversations, so that a first
    # message sent twice begins one conversation.
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
    )
    client_id = models.UUIDField(null=True, blank=True)
    steps = models.JSONField(default=list, blank=True, help_text="How the agent came to it: thoughts and tools.")
    created_at = models.DateTimeField()

    objects = OurQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        constraints = [
            models.UniqueConstraint(fields=["conversation", "seq"], name="message_seq"),
            models.UniqueConstraint(
                fields=["sender", "client_id"], condition=Q(client_id__isnull=False), name="message_client_id"
            ),
            models.CheckConstraint(
                condition=Q(role=Role.ASSISTANT.value, sender=None, client_id=None)
                | Q(role=Role.USER.value, sender__isnull=False, client_id__isnull=False),
                name="message_user_has_client_id",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.seq}: {self.text[:60]}"


class AgentTurnQuerySet(OurQuerySet):
    """Each filter also says what is null, so that PostgreSQL uses the partial indexes (decision 2)."""

    def unfinished(self) -> Self:
        return self.filter(finished_at=None)

    def queued(self) -> Self:
        return self.unfinished().filter(state=TurnState.QUEUED.value)

    def running(self) -> Self:
        return self.unfinished().filter(state=TurnState.RUNNING.value)

    def left_behind(self, now: datetime) -> Self:
        """Running turns whose node is fenced or retired, or whose deadline is more than TURN_GRACE_SECONDS ago."""
        grace = timedelta(seconds=TURN_GRACE_SECONDS)
        gone = Q(node__fenced_at__isnull=False) | Q(node__retired_at__isnull=False)
        return self.running().filter(gone | Q(deadline_at__lt=now - grace))


class AgentTurn(models.Model):
    """The agent's work on one question. Its id is the `run` of the agent events.

    It runs on one node under one attempt number. Each write is conditional on that number, so a node whose turn was
    taken over can't write to it any more.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="agent_turns", db_index=False
    )
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns", db_index=False)
    question = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="turn")
    answer = models.OneToOneField(Message, null=True, blank=True, on_delete=models.SET_NULL, related_name="answer_of")
    joined = models.PositiveIntegerField(default=0, help_text="Earlier questions that this one stands for too.")
    state = models.CharField(max_length=9, choices=choices(TurnState), default=TurnState.QUEUED)
    # Without a constraint, since its check would make each claim wait for a lock that somebody holds on the node's row.
    node = models.ForeignKey(
        "connections.Node",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    slot = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Which of the user's few running turns it is."
    )
    attempt = models.PositiveIntegerField(default=0)
    retries = models.PositiveIntegerField(default=0, help_text="How often it was begun again, its node being lost.")
    asked_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    cancel_wanted_at = models.DateTimeField(
        null=True, blank=True, help_text="Its user wants no answer any more; whoever runs it stops."
    )
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)

    objects = AgentTurnQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"  # of foreign keys and refresh_from_db, too
        constraints = [
            models.UniqueConstraint(
                fields=["conversation"], condition=Q(state=TurnState.RUNNING.value), name="turn_one_running"
            ),
            models.UniqueConstraint(
                fields=["user", "slot"], condition=Q(state=TurnState.RUNNING.value), name="turn_slot"
            ),
            models.CheckConstraint(
                condition=~Q(state=TurnState.RUNNING.value)
                | Q(slot__isnull=False, started_at__isnull=False, deadline_at__isnull=False),
                name="turn_running_is_bounded",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[s.value for s in UNFINISHED], finished_at=None)
                | Q(state__in=[s.value for s in FINISHED], finished_at__isnull=False),
                name="turn_finished",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "asked_at"], condition=Q(finished_at=None), name="turn_unfinished"),
            models.Index(fields=["node"], condition=Q(node__isnull=False), name="turn_by_node"),
            models.Index(fields=["conversation", "asked_at"], name="turn_by_conversation"),
        ]

    def __str__(self) -> str:
        return str(self.id)
