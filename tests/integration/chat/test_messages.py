"""Messages are stored once, in order, and only for their owner."""

from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from connections.chat import messages
from connections.chat.agents import tools
from connections.chat.agents.tools import ToolContext
from connections.chat.frames import UserMessage
from connections.chat.models import Conversation, Message
from tests.support.concurrency import run_concurrently
from tests.support.rows import make_user

pytestmark = pytest.mark.django_db(transaction=True)


def send(user: User, text: str = "hello", conversation: UUID | None = None, key: UUID | None = None) -> messages.Stored:
    key = key or uuid4()
    return messages.add_user_message(user.pk, UserMessage(key, conversation, text, str(key)))


def test_writers_at_once_get_numbers_without_a_gap() -> None:
    user = make_user("ada")
    conversation = send(user).message.conversation
    stored = run_concurrently(*(lambda: send(user, conversation=conversation).message.seq for _ in range(8)))
    assert sorted(stored) == list(range(2, 10))
    assert Conversation.objects.get().last_seq == 9


@pytest.mark.parametrize("fresh_conversation", [True, False])
def test_the_same_message_sent_at_once_is_stored_once(fresh_conversation: bool) -> None:
    user, key = make_user("ada"), uuid4()
    conversation = None if fresh_conversation else send(user).message.conversation
    stored = run_concurrently(*(lambda: send(user, conversation=conversation, key=key) for _ in range(6)))
    assert len({(each.message.conversation, each.message.seq) for each in stored}) == 1
    assert sum(each.fresh for each in stored) == 1
    assert Message.objects.filter(client_id=key).count() == 1
    assert Conversation.objects.count() == 1


def test_the_same_key_of_two_users_is_two_messages() -> None:
    key = uuid4()
    first, second = (send(make_user(name), key=key) for name in ("ada", "grace"))
    assert first.fresh
    assert second.fresh
    assert first.message.conversation != second.message.conversation


def test_a_strangers_conversation_is_not_found() -> None:
    mine, stranger = send(make_user("ada"), "secret"), make_user("grace")
    conversation = mine.message.conversation
    with pytest.raises(messages.NotFound):
        send(stranger, conversation=conversation)
    with pytest.raises(messages.NotFound):
        messages.messages_after(stranger.pk, conversation, 0, 10)
    with pytest.raises(messages.NotFound):
        messages.last_seq(stranger.pk, conversation)
    with pytest.raises(messages.NotFound):
        messages.messages_before(stranger.pk, conversation, 9, 10)
    with pytest.raises(messages.NotFound):
        messages.conversations(stranger.pk, before=conversation)
    assert messages.conversations(stranger.pk) == {"conversations": [], "more": False}
    context = ToolContext(stranger.pk, conversation, None)
    assert tools.run_tool(context, "search_my_conversations", {"query": "secret"}).value == []
    assert not tools.run_tool(context, "summary_of_conversation", {}).success
    assert not tools.run_tool(context, "summary_of_conversation", {"title": "secret"}).success
    assert Message.objects.count() == 1


def test_there_is_a_bound_on_conversations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "CONVERSATIONS_PER_USER", 2)
    user = make_user("ada")
    conversation = send(user).message.conversation
    send(user)
    with pytest.raises(messages.TooManyConversations):
        send(user)
    assert send(user, conversation=conversation).message.seq == 2


def test_conversations_are_listed_by_their_last_message() -> None:
    user = make_user("ada")
    first, second = (send(user, text).message.conversation for text in ("one\n two", "x" * 200))
    send(user, conversation=first)
    listed = messages.conversations(user.pk)["conversations"]
    assert [row["id"] for row in listed] == [str(first), str(second)]
    assert listed[0]["title"] == "one two"
    assert listed[0]["last_seq"] == 2
    assert len(listed[1]["title"]) == 80


def test_older_conversations_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "CONVERSATIONS_LISTED", 2)
    user = make_user("ada")
    begun = [str(send(user, text).message.conversation) for text in "abcde"]
    found: list[str] = []
    more = True
    while more:
        page = messages.conversations(user.pk, UUID(found[-1]) if found else None)
        found += [row["id"] for row in page["conversations"]]
        more = page["more"]
    assert found == begun[::-1]


def test_what_came_before_is_told_page_by_page() -> None:
    user = make_user("ada")
    conversation = send(user, "one").message.conversation
    for text in ("two", "three", "four"):
        send(user, text, conversation)
    title, page = messages.messages_before(user.pk, conversation, 4, 2)
    assert (title, [message.text for message in page]) == ("one", ["two", "three"])
    assert [message.seq for message in messages.messages_before(user.pk, conversation, 2, 2)[1]] == [1]
    assert messages.messages_before(user.pk, conversation, 1, 2)[1] == []


def test_tools_look_at_what_was_written_and_not_at_the_question() -> None:
    user = make_user("ada")
    earlier = send(user, "The blue whale is large.").message
    question = send(user, "Search for WHALE blue", earlier.conversation).message
    context = ToolContext(user.pk, question.conversation, None, question.seq)
    found = tools.run_tool(context, "search_my_conversations", {"query": "WHALE blue"}).value
    assert [(passage["seq"], passage["excerpt"]) for passage in found] == [(1, "The blue whale is large.")]
    summary = tools.run_tool(context, "summary_of_conversation", {}).value
    assert (summary["questions"], summary["asked"]) == (1, ["The blue whale is large."])


@pytest.mark.parametrize(
    ("tool", "parameters"),
    [("nothing", {}), ("search_my_conversations", {}), ("my_sessions", {"user": "2"}), ("sign_out_others", {})],
)
def test_a_tool_used_wrongly_says_so(tool: str, parameters: dict[str, str]) -> None:
    result = tools.run_tool(ToolContext(make_user("ada").pk, uuid4(), None), tool, parameters)
    assert not result.success
    assert isinstance(result.value, str)
