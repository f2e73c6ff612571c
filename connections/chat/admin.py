"""Read-only admin pages for conversations, messages and turns: messages never change, and the runner changes turns.

The support groups have no permission on these, since users' messages are private.
"""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest

from connections.admin.lists import InspectionAdmin, as_uuid, goes_with_its_user, users_named
from connections.chat.models import AgentTurn, Conversation, Message

EXCERPT_CHARACTERS = 80  # of a message in a list


class UserOwnedAdmin(InspectionAdmin):
    """For rows that are deleted with their user."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return goes_with_its_user(request, self.model)


@admin.register(Conversation)
class ConversationAdmin(UserOwnedAdmin):
    list_display = ("id", "user", "title", "last_seq", "created_at", "updated_at")
    list_select_related = ("user",)
    ordering = ("-created_at",)
    search_help_text = "A username or its beginning, #id of a user, or the id of a conversation."

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        return Q(user_id__in=users_named(term)) if key is None else Q(pk=key)


@admin.register(Message)
class MessageAdmin(UserOwnedAdmin):
    list_display = ("id", "conversation_id", "seq", "role", "beginning", "created_at")
    list_filter = ("role",)
    ordering = ("-pk",)
    search_help_text = "A username or its beginning, #id of a user, the id of a conversation, or a client id."

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        return Q(sender_id__in=users_named(term)) if key is None else Q(conversation_id=key) | Q(client_id=key)

    @admin.display(description="text")
    def beginning(self, message: Message) -> str:
        return message.text if len(message.text) <= EXCERPT_CHARACTERS else f"{message.text[:EXCERPT_CHARACTERS]}…"


@admin.register(AgentTurn)
class AgentTurnAdmin(UserOwnedAdmin):
    list_display = ("id", "user", "state", "node", "attempt", "retries", "asked_at", "started_at", "finished_at")
    list_filter = ("state",)
    list_select_related = ("user", "node")
    ordering = ("-question_id",)  # in the order of the questions, which has an index
    search_help_text = "A username or its beginning, #id of a user, or the id of a turn or of a conversation."

    def matching(self, term: str) -> Q:
        key = as_uuid(term)
        return Q(user_id__in=users_named(term)) if key is None else Q(pk=key) | Q(conversation_id=key)
