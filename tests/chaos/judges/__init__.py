"""The judges: a function for each of the ten invariants in docs/reliability.md, over what a run has recorded. Pure."""

from collections.abc import Callable

from tests.chaos.history import History
from tests.chaos.judges.admission import bounded, never_locked_out, no_storms
from tests.chaos.judges.endings import convergence, the_dead_are_freed, the_living_are_spared
from tests.chaos.judges.trail import explained, isolation, nothing_lost, one_source_of_truth
from tests.chaos.judges.verdict import Verdict

JUDGES: dict[str, Callable[[History], Verdict]] = {
    "bounded": bounded,
    "never locked out": never_locked_out,
    "the dead are freed": the_dead_are_freed,
    "the living are spared": the_living_are_spared,
    "one source of truth": one_source_of_truth,
    "isolation": isolation,
    "convergence": convergence,
    "explained": explained,
    "nothing lost": nothing_lost,
    "no storms": no_storms,
}


def judge(history: History) -> dict[str, Verdict]:
    return {name: judged(history) for name, judged in JUDGES.items()}
