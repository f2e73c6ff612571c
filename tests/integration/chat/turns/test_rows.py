"""Turns: who may run one, what a lost attempt may still do, and that each ends."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db.models import Min
from django.utils import timezone

from connections.chat import messages
from connections.chat.frames import UserMessage
from connections.chat.limits import STRAY_SECONDS, TURN_GRACE_SECONDS, TURN_SECONDS, TURNS_PER_USER, TURNS_WAITING
from connections.chat.models import AgentTurn, Message
from connections.chat.states import TurnState
from connections.chat.turns import rows as turn_rows
from tests.support.concurrency import run_concurrently
from tests.support.rows import lost_node, make_node, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return make_user("ada")


def ask(user: User, text: str = "hello", conversation: Any = None) -> messages.Stored:
    key = uuid4()
    return messages.add_user_message(user.pk, UserMessage(key, conversation, text, str(key)))


def test_a_conversation_has_one_turn_at_a_time_and_answers_in_order(user: User) -> None:
    node = make_node()
    first = ask(user, "first")
    conversation = first.message.conversation
    second = ask(user, "second", conversation)
    claimed = turn_rows.claim(user.pk, node.pk)
    assert claimed is not None
    assert (claimed.run, claimed.attempt, claimed.text) == (first.run, 1, "first")
    assert turn_rows.claim(user.pk, node.pk) is None
    answer = turn_rows.finish(claimed.run, claimed.attempt, "answer")
    assert answer is not None
    assert (answer.message.seq, answer.message.role, answer.success) == (3, "assistant", True)
    following = turn_rows.claim(user.pk, node.pk)
    assert following is not None
    assert following.run == second.run


def test_a_user_has_a_few_turns_at_once(user: User) -> None:
    node, other = make_node(), make_user("grace")
    for _ in range(TURNS_PER_USER + 1):
        ask(user)
    ask(other)
    claimed = [turn_rows.claim(user.pk, node.pk) for _ in range(TURNS_PER_USER + 1)]
    assert [turn is not None for turn in claimed] == [True] * TURNS_PER_USER + [False]
    assert turn_rows.claim(other.pk, node.pk) is not None


@pytest.mark.django_db(transaction=True)
def test_nodes_that_claim_at_once_get_different_turns(user: User) -> None:
    nodes = [make_node(f"web-{number}") for number in range(4)]
    runs = {ask(user, conversation=None).run for _ in range(3)}
    claimed = run_concurrently(*(lambda node=node: turn_rows.claim(user.pk, node.pk) for node in nodes))
    assert {turn.run for turn in claimed if turn is not None} == runs
    assert sum(turn is None for turn in claimed) == 1


def test_a_question_too_many_joins_the_last_that_waits(user: User) -> None:
    conversation = ask(user).message.conversation
    last = [ask(user, f"question {number}", conversation) for number in range(TURNS_WAITING + 2)][-1]
    waiting = AgentTurn.objects.queued().order_by("question__seq")
    assert len(waiting) == TURNS_WAITING
    assert waiting[TURNS_WAITING - 1].id == last.run
    assert waiting[TURNS_WAITING - 1].joined == 3
    assert waiting[TURNS_WAITING - 1].question.seq == last.message.seq


def test_a_turn_of_a_lost_node_is_begun_again_once_and_the_first_attempt_adds_nothing(user: User) -> None:
    lost, node = lost_node(), make_node()
    ask(user)
    first = turn_rows.claim(user.pk, lost.pk)
    assert first is not None
    assert turn_rows.requeue_abandoned(timezone.now()) == ([], {user.pk})
    again = turn_rows.claim(user.pk, node.pk)
    assert again is not None
    assert (again.run, again.attempt) == (first.run, 2)
    assert turn_rows.runs_to_stop({first.run: first.attempt}) == [first.run]
    assert turn_rows.runs_to_stop({again.run: again.attempt}) == []
    assert turn_rows.finish(first.run, first.attempt, "too late") is None
    assert turn_rows.finish(again.run, again.attempt, "answer") is not None
    assert list(Message.objects.filter(role="assistant").values_list("text", flat=True)) == ["answer"]


def test_a_turn_that_lost_two_nodes_ends_with_an_apology(user: User) -> None:
    lost = lost_node()
    ask(user)
    assert turn_rows.claim(user.pk, lost.pk) is not None
    assert turn_rows.requeue_abandoned(timezone.now())[0] == []
    assert turn_rows.claim(user.pk, lost.pk) is not None
    ended, _ = turn_rows.requeue_abandoned(timezone.now())
    assert [turn.message.text for turn in ended] == [turn_rows.APOLOGY_LOST]
    assert turn_rows.claim(user.pk, lost.pk) is None
    assert AgentTurn.objects.get().state == TurnState.FAILED


def test_a_hand_over_of_a_drained_node_is_no_retry(user: User) -> None:
    retired = make_node(retired_at=timezone.now())
    ask(user)
    for attempt in (1, 2, 3):
        claimed = turn_rows.claim(user.pk, retired.pk)
        assert claimed is not None
        assert claimed.attempt == attempt
        assert turn_rows.requeue_abandoned(timezone.now())[0] == []
    assert AgentTurn.objects.get().retries == 0


def test_no_turn_hangs_for_ever(user: User) -> None:
    ask(user)
    claimed = turn_rows.claim(user.pk, make_node().pk)
    assert claimed is not None
    just_over = timezone.now() + timedelta(seconds=TURN_SECONDS + 1)
    assert turn_rows.requeue_abandoned(just_over) == ([], set())
    ended, users = turn_rows.requeue_abandoned(just_over + timedelta(seconds=TURN_GRACE_SECONDS))
    assert [turn.message.text for turn in ended] == [turn_rows.APOLOGY_LATE]
    assert users == {user.pk}


def test_who_does_not_know_whether_a_turn_was_ended_asks_again(user: User) -> None:
    ask(user)
    claimed = turn_rows.claim(user.pk, make_node().pk)
    assert claimed is not None
    first = turn_rows.finish(claimed.run, claimed.attempt, "the answer", steps=[{"thought": "Hm."}])
    assert first is not None
    assert turn_rows.finish(claimed.run, claimed.attempt, turn_rows.APOLOGY, failure="what became of it?") == first
    assert first.message.steps == [{"thought": "Hm."}]
    assert Message.objects.filter(role="assistant").count() == 1


def test_who_is_queued_again_is_not_ended_by_its_first_attempt(user: User) -> None:
    ask(user)
    claimed = turn_rows.claim(user.pk, lost_node().pk)
    assert claimed is not None
    turn_rows.requeue_abandoned(timezone.now())
    assert turn_rows.finish(claimed.run, claimed.attempt, "too late") is None
    assert AgentTurn.objects.get().state == TurnState.QUEUED


def test_a_claim_that_nobody_learned_of_is_queued_again(user: User) -> None:
    """Its commit came back to nobody: the node lives, and does not know that the turn is its own."""
    ask(user)
    node, other = make_node(), make_node("web-2")
    claimed = turn_rows.claim(user.pk, node.pk)
    assert claimed is not None
    later = timezone.now() + timedelta(seconds=STRAY_SECONDS + 1)
    for now, here, under_way in ((timezone.now(), node, []), (later, other, []), (later, node, [claimed.run])):
        assert turn_rows.requeue_abandoned(now, here=here.pk, under_way=under_way) == ([], set())
    assert turn_rows.requeue_abandoned(later, here=node.pk) == ([], {user.pk})
    again = turn_rows.claim(user.pk, node.pk)
    assert again is not None
    assert (again.run, again.attempt) == (claimed.run, 2)
    assert AgentTurn.objects.get().retries == 0


def test_one_who_asks_much_keeps_nobody_else_waiting(user: User) -> None:
    conversation = ask(user).message.conversation
    for _ in range(TURNS_WAITING - 1):
        ask(user, conversation=conversation)
    for _ in range(10):
        ask(user)
    patient = make_user("grace")
    ask(patient)
    assert turn_rows.requeue_abandoned(timezone.now(), limit=2) == ([], {user.pk, patient.pk})
    for _ in range(TURNS_PER_USER):
        assert turn_rows.claim(user.pk, make_node().pk)
    assert turn_rows.requeue_abandoned(timezone.now(), limit=2) == ([], {patient.pk})


def test_the_turns_of_a_user_who_was_deleted_are_nobodys(user: User) -> None:
    ask(user)
    claimed = turn_rows.claim(user.pk, lost_node().pk)
    assert claimed is not None
    stale = AgentTurn.objects.select_related("node").get()
    user.delete()
    assert turn_rows.finish(claimed.run, claimed.attempt, "for nobody") is None
    stale.retries = 1
    assert turn_rows._requeue_or_end(stale, timezone.now()) is None
    assert turn_rows.requeue_abandoned(timezone.now()) == ([], set())


def test_a_living_nodes_turns_are_left_alone(user: User) -> None:
    ask(user)
    assert turn_rows.claim(user.pk, make_node().pk) is not None
    assert turn_rows.requeue_abandoned(timezone.now()) == ([], set())


def test_a_turn_that_waits_ends_at_once_when_it_is_cancelled(user: User) -> None:
    node, first = make_node(), ask(user, "first")
    waiting = ask(user, "second", first.message.conversation)
    assert waiting.run is not None
    assert turn_rows.claim(user.pk, node.pk) is not None
    told = turn_rows.cancel(user.pk, waiting.run)
    assert told is not None
    assert (told.message.seq, told.message.role, told.message.text) == (3, "assistant", turn_rows.STOPPED)
    turn = AgentTurn.objects.get(id=waiting.run)
    assert (turn.state, turn.answer_id is not None) == (TurnState.CANCELLED, True)
    assert turn_rows.cancel(user.pk, waiting.run) is None
    assert Message.objects.count() == 3


def test_a_turn_that_runs_is_marked_and_its_node_ends_it(user: User) -> None:
    run, node = ask(user).run, make_node()
    claimed = turn_rows.claim(user.pk, node.pk)
    assert run is not None
    assert claimed is not None
    assert turn_rows.runs_to_stop({run: claimed.attempt}) == []
    assert turn_rows.cancel(user.pk, run) is None
    assert turn_rows.runs_to_stop({run: claimed.attempt}) == [run]
    assert turn_rows.finish(run, claimed.attempt, "so far", failure=turn_rows.CANCELLED) is not None
    assert AgentTurn.objects.get().state == TurnState.CANCELLED


def test_nobody_cancels_what_is_anothers(user: User) -> None:
    run = ask(user).run
    assert run is not None
    for theirs, which in ((make_user("grace"), run), (user, uuid4())):
        with pytest.raises(messages.NotFound):
            turn_rows.cancel(theirs.pk, which)
    assert AgentTurn.objects.get().state == TurnState.QUEUED


def test_what_a_lost_node_was_at_is_not_begun_again_once_it_is_cancelled(user: User) -> None:
    run, lost = ask(user).run, lost_node()
    assert run is not None
    assert turn_rows.claim(user.pk, lost.pk) is not None
    turn_rows.cancel(user.pk, run)
    ended, _ = turn_rows.requeue_abandoned(timezone.now())
    assert [(end.run, end.message.text) for end in ended] == [(run, turn_rows.STOPPED)]
    assert AgentTurn.objects.get().state == TurnState.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_a_claim_and_a_cancel_at_once_never_both_win(user: User) -> None:
    node = make_node()
    for _ in range(5):
        run = ask(user).run
        assert run is not None
        claimed, told = run_concurrently(
            partial(turn_rows.claim, user.pk, node.pk), partial(turn_rows.cancel, user.pk, run)
        )
        assert (claimed is None) == (told is not None)
        if claimed is not None:
            assert turn_rows.runs_to_stop({run: claimed.attempt}) == [run]
            turn_rows.finish(run, claimed.attempt, "", failure=turn_rows.CANCELLED)


def test_what_is_asked_all_the_time_is_answered_by_an_index() -> None:
    unfinished = [
        AgentTurn.objects.queued().filter(user_id=1).order_by("asked_at"),
        AgentTurn.objects.running().filter(user_id=1),
        AgentTurn.objects.queued().values("user_id").annotate(since=Min("asked_at")).order_by("since"),
    ]
    for rows in unfinished:
        assert "turn_unfinished" in rows.explain()
    assert "turn_by_node" in AgentTurn.objects.filter(node_id__in=[uuid4()]).explain(), "asked when nodes are pruned"
