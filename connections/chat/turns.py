"""The rows of agent turns: who may run one, and how it ends. Synchronous; each call is its own transaction.

Every write is conditional on the attempt number, so that whoever lost a turn can add nothing to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from connections import database
from connections.chat.limits import TURN_RETRIES, TURN_SECONDS, TURNS_PER_USER
from connections.chat.models import AgentTurn, Conversation
from connections.chat.states import Role, TurnState
from connections.chat.store import NotFound, Step, StoredMessage, append, stored_form

APOLOGY = "Sorry, something went wrong on our side and I could not answer. Please ask again."
APOLOGY_LATE = "Sorry, this took too long and I stopped. Please ask again."
STOPPED = "Stopped, as you asked."
CANCELLED = "cancelled by its user"
APOLOGY_LOST = "Sorry, the server that worked on this went away before it had an answer. Please ask again."


@dataclass(frozen=True, slots=True)
class Claimed:
    """A turn that this process has the right to run, until somebody raises the attempt."""

    run: UUID
    attempt: int
    user_id: Any
    conversation: UUID
    seq: int
    text: str
    joined: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that was ended for a process that could not do it."""

    run: UUID
    user_id: Any
    message: StoredMessage
    milliseconds: int  # since it began


def running_on(conversation: UUID) -> UUID | None:
    """The node that is at the conversation's turn; None if none is."""
    turns = AgentTurn.objects.running().filter(conversation_id=conversation)
    return turns.values_list("node_id", flat=True).first()


def claim(user_id: Any, node_id: UUID | None) -> Claimed | None:
    """The right to run the user's oldest question whose conversation is idle; None if there is none, or if the
    user has as many turns running as are allowed."""
    for _ in range(TURNS_PER_USER):
        try:
            with transaction.atomic():
                return _claim(user_id, node_id, database.now())
        except IntegrityError:
            continue  # another node took this slot or conversation in the same moment
    return None


def _claim(user_id: Any, node_id: UUID | None, now: datetime) -> Claimed | None:
    running = list(AgentTurn.objects.running().filter(user_id=user_id).values_list("slot", "conversation_id"))
    taken = {slot for slot, _ in running}
    free = [slot for slot in range(TURNS_PER_USER) if slot not in taken]
    if not free:
        return None
    turn = (
        AgentTurn.objects.queued()
        .filter(user_id=user_id)
        .exclude(conversation_id__in=[conversation for _, conversation in running])
        .select_for_update(skip_locked=True, of=("self",))
        .select_related("question")
        .order_by("asked_at")
        .first()
    )
    if turn is None:
        return None
    turn.attempt += 1
    claimed = (
        AgentTurn.objects.queued()
        .filter(id=turn.id)
        .update(
            state=TurnState.RUNNING.value,
            node_id=node_id,
            slot=free[0],
            attempt=turn.attempt,
            started_at=now,
            deadline_at=now + timedelta(seconds=TURN_SECONDS),
        )
    )
    if not claimed:
        return None
    question = turn.question
    return Claimed(
        run=turn.id,
        attempt=turn.attempt,
        user_id=turn.user_id,
        conversation=turn.conversation_id,
        seq=question.seq,
        text=question.text,
        joined=turn.joined,
    )


def finish(
    run: UUID, attempt: int, text: str, *, failure: str = "", steps: Sequence[Step] = ()
) -> StoredMessage | None:
    """Store the answer with the steps to it, and end the turn; `failure` says for our eyes what went wrong, or is
    CANCELLED.

    None if the turn is no longer this attempt's: then nothing was stored.
    """
    with transaction.atomic():
        turn = AgentTurn.objects.running().filter(id=run, attempt=attempt).first()
        if turn is None:
            return None
        conversation = Conversation.objects.select_for_update(no_key=True).get(id=turn.conversation_id)
        now = database.now()
        state = TurnState.FAILED if failure else TurnState.COMPLETED
        if failure == CANCELLED:
            state = TurnState.CANCELLED
        ended = (
            AgentTurn.objects.running()
            .filter(id=run, attempt=attempt)
            .update(state=state.value, finished_at=now, error=failure[:500])
        )
        if not ended:
            return None
        row = append(conversation, Role.ASSISTANT, text, now, steps=steps)
        AgentTurn.objects.filter(id=run).update(answer=row)
        return stored_form(row)


def cancel(user_id: Any, run: UUID) -> StoredMessage | None:
    """The user wants no answer any more. A turn that waits is ended here, and what was stored for it is returned; one
    that runs is only marked, for the node that runs it. Nothing is done to one that is over. Raises NotFound.

    At once with a claim, or with whoever takes over from a lost node, the mark stays, and whoever runs the turn
    finds it. The conversation is locked first, as by all who write to it.
    """
    turn = AgentTurn.objects.filter(id=run, user_id=user_id).first()
    if turn is None:
        raise NotFound("You have no such turn.")
    with transaction.atomic():
        conversation = Conversation.objects.select_for_update(no_key=True).get(id=turn.conversation_id)
        now = database.now()
        AgentTurn.objects.unfinished().filter(id=run).update(cancel_wanted_at=now)
        waited = AgentTurn.objects.queued().filter(id=run)
        if not waited.update(state=TurnState.CANCELLED.value, finished_at=now, error=CANCELLED):
            return None
        row = append(conversation, Role.ASSISTANT, STOPPED, now)
        AgentTurn.objects.filter(id=run).update(answer=row)
        return stored_form(row)


def unwanted(attempts: Mapping[UUID, int]) -> list[UUID]:
    """Which of these turns, run under these attempts, nobody waits for: their users want them no more, or somebody else
    took them over or ended them.
    """
    rows = AgentTurn.objects.running().filter(id__in=attempts, cancel_wanted_at=None)
    wanted = set(rows.values_list("id", "attempt"))
    return [run for run, attempt in attempts.items() if (run, attempt) not in wanted]


def rescue(now: datetime, limit: int = 20) -> tuple[list[Ended], set[Any]]:
    """Deal with turns that were left behind: queue once more what a lost node was at, and end the others with an
    apology. Returns what was ended, and the users who have something to claim."""
    ended: list[Ended] = []
    users: set[Any] = set()
    for turn in AgentTurn.objects.left_behind(now).select_related("node")[:limit]:
        late = turn.deadline_at is not None and turn.deadline_at < now
        lost = turn.node is not None and turn.node.fenced_at is not None
        message: StoredMessage | None = None
        if turn.cancel_wanted_at is not None:
            message = finish(turn.id, turn.attempt, STOPPED, failure=CANCELLED)
        elif late or (lost and turn.retries >= TURN_RETRIES):
            apology = APOLOGY_LATE if late and not lost else APOLOGY_LOST
            message = finish(turn.id, turn.attempt, apology, failure="left behind by its node")
        else:
            _requeue(turn, lost=lost)
        if message is not None:
            took = round((now - turn.started_at).total_seconds() * 1000)
            ended.append(Ended(turn.id, turn.user_id, message, took))
        users.add(turn.user_id)
    waiting = AgentTurn.objects.queued().values_list("user_id", flat=True).order_by("asked_at")
    users.update(waiting[:limit])
    return ended, users


def _requeue(turn: AgentTurn, *, lost: bool) -> None:
    """A hand-over from a node that drained is no retry. The claim that follows raises the attempt."""
    AgentTurn.objects.running().filter(id=turn.id, attempt=turn.attempt).update(
        state=TurnState.QUEUED.value,
        node=None,
        slot=None,
        started_at=None,
        deadline_at=None,
        retries=F("retries") + (1 if lost else 0),
    )
