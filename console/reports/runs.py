"""One run as its page shows it: progress, findings, actions, and whether the user has connected again."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connections import database
from connections.models import AuditEntry, ManagerRecord, RecoveryRun, RunStep
from connections.policy.states import DEAD, STEPS, Action, Verdict
from connections.recovery.findings import GONE, WOULD_GO

WAIT_FOR_HANDSHAKE = timedelta(minutes=10)  # about the length of a support call


@dataclass(frozen=True, slots=True)
class StepView:
    code: str
    state: str
    """`done`, `now` or `todo`."""
    detail: str = ""
    error: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    run: RecoveryRun
    now: datetime
    held_now: int
    steps: tuple[StepView, ...]
    asked: tuple[AuditEntry, ...]
    """The audit entries of the requests: first the one that opened the run, then those that joined it."""
    next_handshake: ManagerRecord | None
    actions: dict[str, int] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.run.finished_at is None

    @property
    def awaits_handshake(self) -> bool:
        """Whether the page still polls for the user's next handshake, which proves that the recovery worked."""
        ended = self.run.finished_at
        if ended is None or self.run.dry_run or self.run.user_id is None or self.next_handshake is not None:
            return False
        return self.now - ended < WAIT_FOR_HANDSHAKE

    @property
    def joined(self) -> tuple[AuditEntry, ...]:
        return self.asked[1:]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings in the table's order: dead managers first."""
        return sorted(self.run.findings, key=lambda found: (found.get("verdict") not in DEAD, found.get("node", "")))

    @property
    def after(self) -> int:
        """The managers held at the end of the run; while it is open, those held now."""
        return self.held_now if self.run.after is None else self.run.after

    @property
    def freed(self) -> int:
        """The managers that the run freed or closed; in a dry run, those that a recovery would."""
        return sum(self.actions.get(action, 0) for action in (WOULD_GO if self.run.dry_run else GONE))

    @property
    def spared(self) -> int:
        return self.actions.get(Action.SPARED, 0)

    @property
    def unconfirmed(self) -> int:
        return self.actions.get(Action.UNCONFIRMED, 0) + self.actions.get(Action.WAITING, 0)

    @property
    def unknown(self) -> int:
        return sum(found.get("verdict") == Verdict.UNKNOWN for found in self.run.findings)

    @property
    def seconds(self) -> str:
        return f"{self.run.duration_ms / 1000:.1f}"

    @property
    def handshake_after(self) -> str:
        """Seconds from the request to the next handshake; empty before it."""
        if self.next_handshake is None:
            return ""
        return f"{(self.next_handshake.opened_at - self.run.opened_at).total_seconds():.1f}"

    @property
    def step_number(self) -> int:
        return sum(step.state == "done" for step in self.steps)

    @property
    def step_now(self) -> str:
        return next((step.code for step in self.steps if step.state == "now"), "")


def run_view(run: RecoveryRun) -> RunView:
    """Read what the page shows. Four queries."""
    return RunView(
        run=run,
        now=database.now(),
        held_now=ManagerRecord.objects.held().filter(user_id=run.user_id).count() if run.user_id is not None else 0,
        steps=_steps(run),
        asked=tuple(AuditEntry.objects.filter(run=run).order_by("at", "pk")),
        next_handshake=_next_handshake(run),
        actions=dict(Counter(found.get("action", "") for found in run.findings)),
    )


def _steps(run: RecoveryRun) -> tuple[StepView, ...]:
    taken: dict[str, RunStep] = {}
    for step in run.steps.all():
        taken[step.step] = step
    codes = _codes([*taken, run.step])
    current = codes.index(run.step)
    views = []
    for place, code in enumerate(codes):
        row = taken.get(code)
        past = run.finished_at is not None or place < current
        state = "done" if past else "now" if place == current else "todo"
        views.append(
            StepView(code, state, row.detail if row else "", row.error if row else "", row.at if row else None)
        )
    return tuple(views)


def _codes(met: list[str]) -> list[str]:
    """The steps in order. A step that only a newer version has comes after the one before it in `met`."""
    codes: list[str] = list(STEPS)
    before = -1
    for code in met:
        if code not in codes:
            codes.insert(before + 1, code)
        before = codes.index(code)
    return codes


def _next_handshake(run: RecoveryRun) -> ManagerRecord | None:
    """Return the first manager that the user opened after the run was requested. None for a dry run."""
    if run.dry_run or run.user_id is None:
        return None
    later = ManagerRecord.objects.filter(user_id=run.user_id, opened_at__gt=run.opened_at)
    return later.select_related("node").order_by("opened_at").first()


def recent_runs(size: int) -> list[RecoveryRun]:
    """Return open runs, then the latest finished ones, without their findings. Two queries, each with an index."""
    runs = RecoveryRun.objects.defer("findings", "stock")
    opened = list(runs.open().order_by("-opened_at")[:size])
    finished = runs.filter(finished_at__isnull=False).order_by("-finished_at")[: size - len(opened)]
    return opened + list(finished)
