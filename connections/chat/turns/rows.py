"""The rows of agent turns: claim, finish, cancel, requeue. Synchronous; each call is its own transaction.

Every write is conditional on the attempt number, so that a process whose turn was taken over can't write to it. Code
that writes to both locks the conversation before the turn.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, IntegrityError
from django.db.models import Count, F, OuterRef, QuerySet, Subquery

from connections import database
from connections.chat.limits import STRAY_SECONDS, TURN_RETRIES, TURN_SECONDS, TURNS_PER_USER
from connections.chat.messages import NotFound, Step, StoredMessage, append, with_previous
from connections.chat.models import AgentTurn, Conversation
from connections.chat.states import Role, TurnState

logger = logging.getLogger(__name__)

APOLOGY = "Sorry, something went wrong on our side and I could not answer. Please ask again."
APOLOGY_LATE = "Sorry, this took too long and I stopped. Please ask again."
STOPPED = "Stopped, as you asked."
CANCELLED = "cancelled by its user"
APOLOGY_LOST = "Sorry, the server that worked on this went away before it had an answer. Please ask again."


@dataclass(frozen=True, slots=True)
class Claimed:
    """A turn that this process may run, until another claim raises its attempt."""

    run: UUID
    attempt: int
    user_id: Any
    conversation: UUID
    seq: int
    text: str
    joined: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that has ended, and its answer."""

    run: UUID
    user_id: Any
    message: StoredMessage
    success: bool
    milliseconds: int  # since it began


def running_on(conversation: UUID) -> UUID | None:
    """The node that runs the conversation's turn, or None."""
    turns = AgentTurn.objects.running().filter(conversation_id=conversation)
    return turns.values_list("node_id", flat=True).first()


def claim(user_id: Any, node_id: UUID | None) -> Claimed | None:
    """Claim the user's oldest question whose conversation is idle. None if there is none, or if the user has as many
    turns running as are allowed.
    """
    for _ in range(TURNS_PER_USER):
        try:
            with database.atomic():
                return _claim(user_id, node_id, database.now())
        except IntegrityError:
            continue  # another node took this slot or conversation at the same time
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
    return _claimed(turn) if claimed else None


def _claimed(turn: AgentTurn) -> Claimed:
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


def finish(run: UUID, attempt: int, text: str, *, failure: str = "", steps: Sequence[Step] = ()) -> Ended | None:
    """Store the answer with its steps, and end the turn. `failure` is for staff: what went wrong, or CANCELLED.

    If this attempt has ended already, return its stored end, so that a caller who lost the reply to a commit can call
    again. Returns None, and stores nothing, if another attempt has the turn or the turn was deleted with its user.
    """
    state = TurnState.FAILED if failure else TurnState.COMPLETED
    if failure == CANCELLED:
        state = TurnState.CANCELLED
    with database.atomic():
        turn = AgentTurn.objects.running().filter(id=run, attempt=attempt).first()
        if turn is None or not _write_end(turn, state, text, failure, steps):
            return _stored_end(run, attempt)
    return _stored_end(run, attempt)


def _write_end(turn: AgentTurn, state: TurnState, text: str, failure: str, steps: Sequence[Step] = ()) -> bool:
    """Write the end of a turn, in the caller's transaction. Returns False if the attempt has ended or was replaced."""
    conversation = Conversation.objects.select_for_update(no_key=True).filter(id=turn.conversation_id).first()
    now = database.now()
    this = AgentTurn.objects.unfinished().filter(id=turn.id, state=turn.state, attempt=turn.attempt)
    if conversation is None or not this.update(state=state.value, finished_at=now, error=failure[:500]):
        return False
    row = append(conversation, Role.ASSISTANT, text, now, steps=steps)
    AgentTurn.objects.filter(id=turn.id).update(answer=row)
    return True


def _stored_end(run: UUID, attempt: int) -> Ended | None:
    turn = AgentTurn.objects.filter(id=run, attempt=attempt, answer__isnull=False).select_related("answer").first()
    return None if turn is None else _end_of(turn)


def _end_of(turn: AgentTurn) -> Ended:
    assert turn.answer is not None, "callers select turns with an answer"
    assert turn.finished_at is not None
    began = turn.started_at or turn.finished_at
    took = round((turn.finished_at - began).total_seconds() * 1000)
    return Ended(turn.id, turn.user_id, with_previous(turn.answer), turn.state == TurnState.COMPLETED, took)


def ended_among(runs: Collection[UUID]) -> list[Ended]:
    """The turns among `runs` that have ended, with their answers."""
    turns = AgentTurn.objects.filter(id__in=runs, answer__isnull=False).select_related("answer")
    return [_end_of(turn) for turn in turns]


def cancel(user_id: Any, run: UUID) -> Ended | None:
    """Cancel a turn for its user. End a queued turn here; only mark a running one, for the node that runs it. An ended
    turn stays as it is. Raises NotFound.

    If another process claims or takes over the turn at the same time, the mark stays, and that process finds it.
    """
    turn = AgentTurn.objects.filter(id=run, user_id=user_id).first()
    if turn is None:
        raise NotFound("You have no such turn.")
    with database.atomic():
        Conversation.objects.select_for_update(no_key=True).filter(id=turn.conversation_id).first()
        AgentTurn.objects.unfinished().filter(id=run).update(cancel_wanted_at=database.now())
        waits = AgentTurn.objects.queued().filter(id=run).first()
        if waits is None or not _write_end(waits, TurnState.CANCELLED, STOPPED, CANCELLED):
            return None
    return _stored_end(run, waits.attempt)


def runs_to_stop(attempts: Mapping[UUID, int]) -> list[UUID]:
    """The runs, among these with their attempts, that this process must stop: cancelled, taken over, or ended."""
    rows = AgentTurn.objects.running().filter(id__in=attempts, cancel_wanted_at=None)
    wanted = set(rows.values_list("id", "attempt"))
    return [run for run, attempt in attempts.items() if (run, attempt) not in wanted]


def requeue_abandoned(
    now: datetime, limit: int = 20, *, here: UUID | None = None, under_way: Collection[UUID] = ()
) -> tuple[list[Ended], set[Any]]:
    """Requeue turns that no process runs, or end them with an apology. These are turns of a lost node, turns past their
    deadline, and turns claimed for the node `here` that are not `under_way` on it, since the claim's reply was lost. If
    one fails, it is logged and doesn't block the others.

    Returns the ended turns, and the users who have a turn to claim.
    """
    ended: list[Ended] = []
    users: set[Any] = set()
    for turn in _not_locked(AgentTurn.objects.left_behind(now), limit):
        with _passed_over(turn):
            done = _requeue_or_end(turn, now)
            users.add(turn.user_id)
            if done is not None:
                ended.append(done)
    if here is not None:
        claimed = AgentTurn.objects.running().filter(
            node_id=here, started_at__lt=now - timedelta(seconds=STRAY_SECONDS)
        )
        for turn in _not_locked(claimed.exclude(id__in=under_way), limit):
            logger.warning("chat_claim_requeued", extra={"run": str(turn.id)})
            with _passed_over(turn):
                _requeue(turn, lost=False)
    return ended, users | _waiting_users(limit)


def _not_locked(turns: QuerySet[AgentTurn], limit: int) -> list[AgentTurn]:
    """The oldest of these turns that no other transaction has locked. Otherwise locked turns, which stay the oldest,
    would fill the limit in each round, and no younger one would come in for as long as the lock is held.
    """
    if not turns.exists():  # as in almost every round: one statement instead of three
        return []
    with database.atomic():
        free = turns.select_related("node", "conversation").order_by("started_at", "asked_at")
        return list(free.select_for_update(skip_locked=True, no_key=True, of=("self", "conversation"))[:limit])


@contextmanager
def _passed_over(turn: AgentTurn) -> Iterator[None]:
    """Log a turn that can't be written, and go on with the next one. Raises the error if the database is away."""
    try:
        yield
    except DatabaseError as error:
        if isinstance(error, database.AWAY) and not database.is_busy(error):
            raise
        logger.warning("chat_turn_not_requeued", extra={"run": str(turn.id), "error": str(error)})


def _requeue_or_end(turn: AgentTurn, now: datetime) -> Ended | None:
    late = turn.deadline_at is not None and turn.deadline_at < now
    lost = turn.node is not None and turn.node.fenced_at is not None
    if turn.cancel_wanted_at is not None:
        return finish(turn.id, turn.attempt, STOPPED, failure=CANCELLED)
    if late or (lost and turn.retries >= TURN_RETRIES):
        apology = APOLOGY_LATE if late and not lost else APOLOGY_LOST
        return finish(turn.id, turn.attempt, apology, failure="left behind by its node")
    _requeue(turn, lost=lost)
    return None


def _requeue(turn: AgentTurn, *, lost: bool) -> None:
    """Queue the turn again. Only a lost node makes it a retry, a drained one does not. The next claim raises the
    attempt.
    """
    AgentTurn.objects.running().filter(id=turn.id, attempt=turn.attempt).update(
        state=TurnState.QUEUED.value,
        node=None,
        slot=None,
        started_at=None,
        deadline_at=None,
        retries=F("retries") + (1 if lost else 0),
    )


def _waiting_users(limit: int) -> set[Any]:
    """At most `limit` users with a turn that could be claimed, those who have waited longest."""
    busy = AgentTurn.objects.running().values("user_id").annotate(running=Count("id"))
    full = busy.filter(running__gte=TURNS_PER_USER).values("user_id")
    queued = AgentTurn.objects.queued()
    oldest = queued.filter(user_id=OuterRef("user_id")).order_by("asked_at").values("id")[:1]
    waiting = queued.exclude(user_id__in=full).filter(id=Subquery(oldest))
    return {turn.user_id for turn in _not_locked(waiting, limit)}
