"""A model behind OpenAI's protocol: it streams, uses the same tools, and what fails is one sentence to the user."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from connections.chat import agents, limits
from connections.chat.agents import openai_agent as module
from connections.chat.agents.builtin import BuiltinAgent
from connections.chat.agents.openai_agent import OpenAIAgent
from connections.chat.agents.tools import TOOLS
from connections.chat.checks import check_model
from connections.chat.models import AgentTurn
from connections.chat.turns import rows as turn_rows
from tests.support.chat_turns import Socket, answered, ask
from tests.support.model import Cut, Finish, Model, Raw, Refusal, Reply, Silence, calls, model, says
from tests.support.rows import make_node, make_record, make_user
from tests.support.servers import free_port

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "sk-not-for-any-log"


def talk(user: User, served: Model, text: str = "hello", **options: Any) -> tuple[Socket, AgentTurn]:
    agent = OpenAIAgent("small", served.url, KEY, read_seconds=0.5)
    return answered(ask(user, text), user, agent, **options)


def test_what_tools_returned_can_have_nobody_signed_out() -> None:
    """Somebody may have written into it that the model should."""
    user, node = make_user("ada"), make_node()
    other = make_record(user, node)
    replies = calls(("my_sessions", "{}")), calls(("sign_out_others", "{}")), says("I looked, and did nothing else.")
    with model(*replies) as served:
        socket, turn = talk(user, served)
    assert turn.state == "completed"
    assert [frame["tool"] for frame in socket.of("tool_executing")] == ["my_sessions"]
    first, second, third = ({tool["function"]["name"] for tool in request["tools"]} for request in served.requests)
    assert first - second == first - third == {"sign_out_others"}
    assert served.requests[2]["messages"][-1]["content"].startswith("Not after other tools")
    other.refresh_from_db()
    assert other.state == "live"


def test_a_tool_is_not_asked_for_more_than_fits() -> None:
    with model(calls(("search_my_conversations", json.dumps({"query": "x" * 20_000})))) as served:
        socket, turn = talk(make_user("ada"), served)
    assert turn.state == "failed"
    assert socket.of("agent_completed")[0]["text"].startswith("The model wanted too much of a tool")
    assert not socket.of("tool_executing")


def roles(request: dict[str, Any]) -> list[str]:
    return [message["role"] for message in request["messages"]]


def test_an_answer_comes_in_the_pieces_in_which_the_model_says_it() -> None:
    with model(says("Good ", "morning", ", ada.")) as served:
        socket, turn = talk(make_user("ada"), served)
    assert [frame["text"] for frame in socket.of("agent_delta")] == ["Good ", "morning", ", ada."]
    done = socket.frames[-1]
    assert (done["type"], done["text"], done["success"]) == ("agent_completed", "Good morning, ada.", True)
    assert turn.state == "completed"
    (request,) = served.requests
    assert (request["model"], request["stream"]) == ("small", True)
    assert {tool["function"]["name"] for tool in request["tools"]} == set(TOOLS)
    assert served.keys == [f"Bearer {KEY}"]


def test_the_tools_are_the_same_and_work_on_the_askers_data() -> None:
    user, other = make_user("ada"), make_user("grace")
    ask(other, "my secret is a lighthouse")
    mine = ask(user, "the lighthouse of my holidays")
    AgentTurn.objects.all().delete()  # nobody waits for these answers
    first = calls(("search_my_conversations", '{"query": "lighthouse"}'), ("my_sessions", ""), say="I look.")
    with model(first, says("You wrote of a lighthouse.")) as served:
        agent = OpenAIAgent("small", served.url, KEY)
        socket, turn = answered(ask(user, "Where did I write of lights?"), user, agent)
    assert turn.state == "completed"
    assert socket.of("agent_completed")[0]["text"] == "I look.\n\nYou wrote of a lighthouse."
    assert [(frame["tool"], frame["success"]) for frame in socket.of("tool_completed")] == [
        ("search_my_conversations", True),
        ("my_sessions", True),
    ]
    found = socket.of("tool_completed")[0]["result"]
    assert [passage["conversation"] for passage in found] == [str(mine.message.conversation)]
    first_asked, then_asked = served.requests
    assert roles(first_asked) == ["system", "user"]
    assert roles(then_asked) == ["system", "user", "assistant", "tool", "tool"]
    assert json.loads(then_asked["messages"][3]["content"]) == found


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("no_such_tool", "{}", "There is no tool named no_such_tool."),
        ("my_sessions", '{"user": "grace"}', "my_sessions does not take"),
        ("search_my_conversations", "{", "The arguments must be a JSON object."),
        ("search_my_conversations", "[1]", "The arguments must be a JSON object."),
        ("search_my_conversations", '{"query": 1}', "does not take"),
    ],
)
def test_a_tool_asked_for_wrongly_is_told_to_the_model_which_goes_on(name: str, arguments: str, told: str) -> None:
    with model(calls((name, arguments)), says("I was wrong.")) as served:
        socket, turn = talk(make_user("ada"), served)
    assert turn.state == "completed"
    assert told in served.requests[1]["messages"][-1]["content"]
    assert len(socket.of("tool_executing")) == len(socket.of("tool_completed"))


def test_what_was_said_before_is_told_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user("ada")
    conversation: UUID | None = None
    with model(says("Fine.")) as served:

        def told(text: str) -> list[tuple[str, str]]:
            """What the model is told for this question, the instructions left out."""
            nonlocal conversation
            stored = ask(user, text, conversation)
            conversation = stored.message.conversation
            answered(stored, user, OpenAIAgent("small", served.url, KEY))
            return [(message["role"], message["content"]) for message in served.requests[-1]["messages"][1:]]

        assert told("one") == [("user", "one")]
        assert told("two") == [("user", "one"), ("assistant", "Fine."), ("user", "two")]
        monkeypatch.setattr(module, "HISTORY_CHARACTERS", len("two" + "Fine."))
        assert told("three") == [("user", "two"), ("assistant", "Fine."), ("user", "three")]
        monkeypatch.setattr(OpenAIAgent, "history_limit", 1)
        assert told("four") == [("assistant", "Fine."), ("user", "four")]


def test_a_server_that_fails_is_asked_again() -> None:
    with model(Refusal(500), Refusal(429, retry_after="0.1"), says("Here I am.")) as served:
        socket, turn = talk(make_user("ada"), served)
    assert (turn.state, socket.of("agent_completed")[0]["text"]) == ("completed", "Here I am.")
    assert len(served.requests) == 3


BEGUN = "Half an ans"


@pytest.mark.parametrize(
    ("reply", "sentence", "requests"),
    [
        (Refusal(500), "The model failed.", 3),
        (Refusal(429, retry_after="0.1"), "The model has too much to do", 3),
        (Refusal(401), "The model does not let this server in.", 1),
        (Refusal(400), "The model could not take this question.", 1),
        ((Silence(),), "The model took too long", 1),
        ((BEGUN, Silence()), "The model took too long", 1),
        ((BEGUN, Cut()), "The model's answer broke off.", 1),
        ((BEGUN,), "The model's answer broke off.", 1),
        ((BEGUN, Raw("data: {not JSON")), "The model's answer broke off.", 1),
        ((BEGUN, Finish("length")), "This is as long as the model's answers may be.", 1),
        ((BEGUN, Finish("content_filter")), "The model was not allowed to go on", 1),
    ],
)
def test_what_fails_is_one_sentence_behind_what_was_said(
    reply: Reply, sentence: str, requests: int, caplog: pytest.LogCaptureFixture
) -> None:
    with model(reply) as served:
        socket, turn = talk(make_user("ada"), served)
    begun = not isinstance(reply, Refusal) and reply[0] == BEGUN
    done = socket.frames[-1]
    assert (done["type"], done["success"]) == ("agent_completed", False)
    assert done["text"].startswith(f"{BEGUN}\n\n{sentence}" if begun else sentence)
    assert socket.of("message")[-1]["text"] == done["text"]
    assert turn.state == "failed"
    assert len(served.requests) == requests
    assert [record.levelname for record in caplog.records if record.getMessage() == "chat_agent_failed"] == ["WARNING"]
    assert KEY not in caplog.text
    assert KEY not in turn.error


def test_a_server_that_is_away_is_said_to_be() -> None:
    user = make_user("ada")
    agent = OpenAIAgent("small", f"http://127.0.0.1:{free_port()}/v1", KEY)
    socket, turn = answered(ask(user), user, agent)
    assert socket.frames[-1]["text"].startswith("The model can't be reached right now.")
    assert turn.state == "failed"


def test_a_server_that_asks_for_patience_is_given_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_CHUNK_SECONDS", 0.5)
    with model(Refusal(429, retry_after="30")) as served:
        socket, _ = talk(make_user("ada"), served)
    assert socket.frames[-1]["text"].startswith("The model took too long")


def test_tools_without_end_are_ended() -> None:
    with model(calls(("my_sessions", "{}"))) as served:
        socket, turn = talk(make_user("ada"), served)
    assert socket.frames[-1]["text"].startswith("The model used its tools again and again")
    assert (turn.state, len(served.requests)) == ("failed", module.MAX_REQUESTS)


def test_whoever_stops_the_answer_hangs_up_on_the_model() -> None:
    user = make_user("ada")
    with model((BEGUN, Silence())) as served:
        agent = OpenAIAgent("small", served.url, KEY, read_seconds=20)
        socket, turn = answered(ask(user), user, agent, cancel=True)
        assert served.left.wait(5)
    assert socket.frames[-1]["text"] == f"{BEGUN}\n\n{turn_rows.STOPPED}"
    assert turn.state == "cancelled"


def test_an_answer_that_is_too_long_hangs_up_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_CHARACTERS", 10)
    with model(("a long answer", Silence())) as served:
        talk(make_user("ada"), served)
        assert served.left.wait(5)


def test_the_settings_say_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(agents.configured(), BuiltinAgent)
    with override_settings(CHAT_MODEL="small", CHAT_MODEL_URL="http://127.0.0.1:9/v1"):
        assert isinstance(agents.configured(), OpenAIAgent)
        assert check_model(None) == []
        monkeypatch.setattr("connections.chat.checks.find_spec", lambda name: None)
        assert [error.id for error in check_model(None)] == ["chat.E001"]
