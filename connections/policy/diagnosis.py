"""Why a user can't connect, in one sentence that support can read out.

`diagnose(facts)` knows no rows: it is as right about managers as the verdicts among its facts.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from connections.policy.states import CauseCode, Suggestion, Verdict
from connections.policy.wording import count_of, rounded_duration


@dataclass(frozen=True, slots=True)
class ManagerFact:
    """One held manager: its verdict, and its node."""

    verdict: Verdict
    node: str = ""
    node_silent_seconds: float = 0.0
    counted: bool = True  # False while it is closing


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a diagnosis. `pool` is the fullest, and the limits are its own; counts are over all pools."""

    username: str
    pool: str
    soft_limit: int
    ceiling: int
    managers: tuple[ManagerFact, ...] = ()
    counted_in_pool: int = 0
    asked: bool = False  # whether the verdicts come from a roll call
    active: bool = True
    rate_limited_seconds: float = 0.0
    nodes: int = 1  # serving nodes that hold their lease
    nodes_draining: int = 0
    nodes_full: int = 0
    database_seconds: float = 0.0  # how long reading the facts took


@dataclass(frozen=True, slots=True)
class Cause:
    code: CauseCode
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    summary: str
    suggestion: Suggestion
    causes: tuple[Cause, ...]
    held: int
    counted: int
    soft_limit: int
    ceiling: int
    pool: str
    dead: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "held": self.held,
            "counted": self.counted,
            "soft_limit": self.soft_limit,
            "ceiling": self.ceiling,
            "summary": self.summary,
            "causes": [{"code": c.code.value, "count": c.count, "text": c.text} for c in self.causes],
            "suggestion": self.suggestion.value,
        }


@dataclass(slots=True)
class _Dead:
    causes: list[Cause] = field(default_factory=list)
    count: int = 0


SLOW_DATABASE = 1.0  # seconds; reading the facts takes some 10 ms


def diagnose(facts: Facts) -> Diagnosis:
    held = len(facts.managers)
    counted = sum(manager.counted for manager in facts.managers)
    dead = _dead(facts)
    unknown = _unknown(facts)
    causes = _blocking(facts) + dead.causes
    if unknown is not None:
        causes.append(unknown)
    if facts.counted_in_pool > facts.soft_limit:
        over = facts.counted_in_pool - facts.soft_limit
        causes.append(Cause(CauseCode.OVER_LIMIT, over, f"{over} over the limit of {facts.soft_limit}"))
    elif facts.counted_in_pool == facts.soft_limit:
        causes.append(Cause(CauseCode.AT_LIMIT, counted, f"at the limit of {facts.soft_limit}"))
    if not causes:
        causes = [Cause(CauseCode.HEALTHY, 0, "nothing stands in the way of a connection")]
    return Diagnosis(
        summary=_summary(facts, held, dead, causes),
        suggestion=_suggestion(facts, dead, causes),
        causes=tuple(causes),
        held=held,
        counted=counted,
        soft_limit=facts.soft_limit,
        ceiling=facts.ceiling,
        pool=facts.pool,
        dead=dead.count,
    )


def _blocking(facts: Facts) -> list[Cause]:
    """Causes that refuse a handshake now, whatever the user holds."""
    causes = []
    if not facts.active:
        causes.append(Cause(CauseCode.ACCOUNT_DISABLED, 1, "the account is disabled"))
    if facts.nodes == 0:
        causes.append(Cause(CauseCode.NO_NODE, 1, "no server is running"))
    elif facts.nodes_draining == facts.nodes:
        causes.append(Cause(CauseCode.NODES_DRAINING, facts.nodes, "every server is draining"))
    elif facts.nodes_draining + facts.nodes_full >= facts.nodes:
        causes.append(Cause(CauseCode.NODES_FULL, facts.nodes_full, "every server is full"))
    if facts.rate_limited_seconds > 0:
        wait = rounded_duration(facts.rate_limited_seconds)
        causes.append(Cause(CauseCode.RATE_LIMITED, 1, f"rate limited for {wait} more"))
    if facts.database_seconds > SLOW_DATABASE:
        causes.append(Cause(CauseCode.DATABASE_SLOW, 1, f"the database took {facts.database_seconds:.1f} s to answer"))
    return causes


def _dead(facts: Facts) -> _Dead:
    found = _Dead()
    lost: Counter[str] = Counter(m.node for m in facts.managers if m.verdict is Verdict.NODE_LOST)
    silent = {m.node: m.node_silent_seconds for m in facts.managers}
    if lost:
        parts = [
            f"{count} on node {node}, gone for {rounded_duration(silent[node])}" for node, count in lost.most_common()
        ]
        found.causes.append(Cause(CauseCode.NODE_LOST, lost.total(), ", ".join(parts)))
    counts = Counter(manager.verdict for manager in facts.managers)
    for verdict, code, one, many in (
        (Verdict.UNRESPONSIVE, CauseCode.UNRESPONSIVE, "that does not answer", "that do not answer"),
        (Verdict.ORPHANED, CauseCode.ORPHANED, "that its node does not know", "that their node does not know"),
        (Verdict.NEVER_OPENED, CauseCode.NEVER_OPENED, "that never opened", "that never opened"),
        (Verdict.STUCK, CauseCode.STUCK, "whose handler is stuck", "whose handlers are stuck"),
    ):
        if counts[verdict]:
            text = f"{counts[verdict]} {one if counts[verdict] == 1 else many}"
            found.causes.append(Cause(code, counts[verdict], text))
    found.count = sum(cause.count for cause in found.causes)
    return found


def _unknown(facts: Facts) -> Cause | None:
    """The managers of which this version can't say whether they live, if there are any."""
    silent = sum(manager.verdict is Verdict.UNKNOWN for manager in facts.managers)
    parts = [f"{silent} whose node has not answered"] if silent else []
    newer = Counter(manager.verdict for manager in facts.managers if not manager.verdict.known)
    parts += [f"{count} that a newer version found to be {word!s}" for word, count in sorted(newer.items())]
    return Cause(CauseCode.UNKNOWN, silent + newer.total(), _joined(parts)) if parts else None


def _summary(facts: Facts, held: int, dead: _Dead, causes: list[Cause]) -> str:
    name = facts.username
    codes = {cause.code: cause for cause in causes}
    sentences = []
    if CauseCode.ACCOUNT_DISABLED in codes:
        sentences.append(f"{name} can't connect: the account is disabled.")
    everybody = (CauseCode.NO_NODE, CauseCode.NODES_DRAINING, CauseCode.NODES_FULL)
    sentences += [f"Nobody can connect: {codes[code].text}." for code in everybody if code in codes]
    if CauseCode.RATE_LIMITED in codes:
        sentences.append(f"{name} connected too often and is {codes[CauseCode.RATE_LIMITED].text}.")
    if CauseCode.DATABASE_SLOW in codes:
        sentences.append(f"New connections may be slow: {codes[CauseCode.DATABASE_SLOW].text}.")
    sentences.append(_holding(facts, held, dead, codes))
    return " ".join(sentences)


def _holding(facts: Facts, held: int, dead: _Dead, codes: dict[CauseCode, Cause]) -> str:
    name, limit = facts.username, facts.soft_limit
    holds = f"{name} holds {count_of(held, 'manager')} at a limit of {limit}"
    unknown = codes.get(CauseCode.UNKNOWN)
    doubt = f" {unknown.text[0].upper() + unknown.text[1:]}." if unknown else ""
    if dead.count:
        listed = _joined([cause.text for cause in dead.causes])
        verb = "is" if dead.count == 1 else "are"
        number = "all" if dead.count == held and held > 1 else str(dead.count)
        return f"{holds}, and {number} {verb} dead: {listed}. Recover frees {dead.count}.{doubt}"
    if CauseCode.OVER_LIMIT in codes:
        over = codes[CauseCode.OVER_LIMIT].count
        return f"{holds}, {over} too many; Recover closes the least active {over}.{doubt}"
    if CauseCode.AT_LIMIT in codes:
        known = "none is known to be dead" if not facts.asked else "none is dead"
        return f"{holds}, and {known}; the next connection is still admitted.{doubt}"
    if held == 0:
        return f"{name} holds no managers, and nothing in the limit stands in the way."
    return f"{holds}, {'all alive' if facts.asked and not unknown else 'none known to be dead'}.{doubt}"


def _suggestion(facts: Facts, dead: _Dead, causes: list[Cause]) -> Suggestion:
    codes = {cause.code for cause in causes}
    if CauseCode.ACCOUNT_DISABLED in codes:
        return Suggestion.ENABLE_ACCOUNT
    if dead.count or CauseCode.OVER_LIMIT in codes:
        return Suggestion.RECOVER
    if codes - {CauseCode.HEALTHY, CauseCode.AT_LIMIT}:
        return Suggestion.WAIT
    return Suggestion.NONE


def _joined(parts: list[str]) -> str:
    """`a`, `a and b`, or `a, b, and c`; parts may have commas of their own."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + ", and " + parts[-1]
