"""The judges of a chaos run: a good history passes, and each kind of wrong one is caught by its judge."""

from collections.abc import Callable

import pytest

from tests.chaos import bounds
from tests.chaos.history import LAG, Ack, Click, Counted, History, Sample, Stored, Told, Window
from tests.chaos.judges import JUDGES, judge
from tests.support.chaos_history import CALM, FROZEN, HEALED, KILLED, add, change, change_line, closed, good, line

Doctor = Callable[[History], None]


def above_the_ceiling(history: History) -> None:
    history.admissions.append(Counted("ada", "chat", history.ceiling + 1, CALM))


def sampled_above_the_ceiling(history: History) -> None:
    history.samples.append(Sample(HEALED, {("ada", "chat"): history.ceiling + 1}))


def stays_above_the_limit(history: History) -> None:
    history.samples[1] = Sample(CALM + 1 + bounds.BACK + bounds.MARGIN + 1, {("ada", "chat"): 9})


def refused_for_nothing(history: History) -> None:
    told = Told(CALM + 4, 4013, "try_again", "after", 2.0)
    history.lines.append(line(20, admitted=None, manager="", told=told))


def refused_as_full(history: History) -> None:
    history.lines.append(line(20, admitted=None, told=Told(CALM + 4, 4013, "node_full", "after", 2.0)))


def rate_limited_at_once(history: History) -> None:
    history.lines.append(line(20, admitted=None, told=Told(CALM + 4, 4429, "rate_limited", "after", 2.0)))


def superseded_by_nobody(history: History) -> None:
    history.lines.append(line(20, admitted=None, told=Told(CALM + 4, 4409, "replaced", "never", 0.0)))


def sent_away_and_never_admitted(history: History) -> None:
    history.lines.append(line(20, admitted=None, told=Told(CALM + 4, 4012, "node_lost", "after", 2.0)))


def a_bare_failure(history: History) -> None:
    history.lines.append(line(20, admitted=None, ended=CALM + 1, failed="WSUpgradeFailure: 500"))


def kept_out_for_a_minute(history: History) -> None:
    history.windows.append(Window("lock_gate", "ada", CALM, CALM + 1))
    told = Told(CALM + 1, 4013, "try_again", "after", 2.0)
    history.lines.append(line(20, admitted=None, manager="", told=told))
    history.lines.append(line(20, began=CALM + 40, attempt=2))


def still_out(history: History) -> None:
    history.agreement.waiting = 1


def closed_and_not_freed(history: History) -> None:
    change(history, "m2", closed=CALM + 5 + bounds.CLEAN + bounds.MARGIN + 1)


def silent_and_not_freed(history: History) -> None:
    change(history, "m3", closed=CALM + 5 + bounds.SILENT + bounds.MARGIN + 1)


def frozen_and_not_freed(history: History) -> None:
    history.windows[1].ended = FROZEN + 20
    its = line(20, node="node-3", began=FROZEN - 5)
    add(history, its, closed(its, "node_lost", FROZEN + bounds.LOST + bounds.MARGIN + 1))


def lost_and_never_freed(history: History) -> None:
    change(history, "m4", state="live", closed=None, reason="")


def a_record_of_nobody(history: History) -> None:
    history.records.append(closed(line(30), "client_closed", CALM))


def a_drain_that_does_not_end(history: History) -> None:
    history.drains[0].code = None


def answered_and_unresponsive(history: History) -> None:
    change_line(history, "m3", silent=None)


def there_and_gone(history: History) -> None:
    change_line(history, "m2", left=None)


def lost_without_a_fence(history: History) -> None:
    history.nodes[1].fenced = None


def fenced_without_cause(history: History) -> None:
    history.nodes[0].fenced = CALM + 5
    history.nodes[0].renewed = CALM


def fenced_before_its_lease_was_over(history: History) -> None:
    history.nodes[1].fenced = KILLED + 1


def dropped_without_a_word(history: History) -> None:
    history.lines.append(line(20, ended=CALM + 5, code=1006))


def one_too_many_evicted(history: History) -> None:
    ranked = "ranked first of 9 at a limit of 8, after a roll call"
    its = line(20, ended=CALM + 9)
    add(history, its, closed(its, "evicted", CALM + 9, closing=CALM + 8.9, evidence=ranked))


def two_evicted_for_one(history: History) -> None:
    for number in (20, 21):
        its = line(number, ended=CALM + 9)
        why = "ranked first at the ceiling of 11 when 0e-1f connected"
        add(history, its, closed(its, "evicted", CALM + 9, evidence=why))


def stuck_for_nothing(history: History) -> None:
    change(history, "m6", reason="stuck")


def a_count_beside(history: History) -> None:
    history.agreement.listed["ada"] = 2


def a_node_that_counts_wrong(history: History) -> None:
    history.agreement.by_node["id of node-2"] = 1


def told_of_too_many(history: History) -> None:
    change_line(history, "m1", counted=12)


def closed_by_the_run_of_another(history: History) -> None:
    change(history, "m6", run="run-1")


def reset_unasked(history: History) -> None:
    history.clicks.clear()


def a_record_without_socket(history: History) -> None:
    history.agreement.held.add("m9")


def a_socket_without_record(history: History) -> None:
    history.agreement.sockets.add("m9")


def never_agreed(history: History) -> None:
    history.agreement.at = None


def a_crash(history: History) -> None:
    history.crashes.append("node-1 with 1")


def closed_without_evidence(history: History) -> None:
    change(history, "m2", evidence="")


def told_something_else(history: History) -> None:
    change(history, "m5", reason="evicted", evidence="ranked first of 9 at a limit of 8, after a roll call")


def a_click_that_left_nothing(history: History) -> None:
    history.audit.clear()


def a_failed_click_that_left_nothing(history: History) -> None:
    history.clicks.append(Click(CALM, "recover", "bob", "token-2", "node-1", 503, CALM + 1))


def acknowledged_and_not_stored(history: History) -> None:
    history.acks.append(Ack("ada", "c2", "tea", 3))


def stored_twice(history: History) -> None:
    history.messages.append(Stored("ada", "tea", 3, "c1"))


def a_number_left_out(history: History) -> None:
    history.messages[1].seq = 3


def a_resume_that_leaves_out(history: History) -> None:
    history.agreement.read["tea"] = [2]


def a_resume_without_the_last(history: History) -> None:
    history.agreement.stored["tea"] = 2
    history.agreement.read["tea"] = [1]


def a_resume_of_more_than_is_stored(history: History) -> None:
    history.agreement.read["tea"] = [1, 2, 3]


def out_of_order(history: History) -> None:
    history.gaps.append("2 of tea came after 4")


def evicted_and_called_back(history: History) -> None:
    change_line(history, "m6", told=Told(CALM + 9, 4409, "evicted", "after", 1.0))


def reset_and_called_back_at_once(history: History) -> None:
    change_line(history, "m5", told=Told(CALM + 9, 4411, "reset", "after", 0.0))


def a_herd_with_one_delay(history: History) -> None:
    told = Told(CALM + 9, 4411, "reset", "after", 2.5)
    for number in range(20, 30):
        history.lines.append(line(number, user="bob", ended=CALM + 9, told=told))


def a_hundred_handshakes_at_once(history: History) -> None:
    history.lines += [line(number) for number in range(100, 200)]


WRONG: dict[str, list[Doctor]] = {
    "bounded": [above_the_ceiling, sampled_above_the_ceiling, stays_above_the_limit],
    "never locked out": [
        refused_for_nothing, refused_as_full, rate_limited_at_once, superseded_by_nobody,
        sent_away_and_never_admitted, a_bare_failure,
        kept_out_for_a_minute, still_out,
    ],
    "the dead are freed": [
        closed_and_not_freed, silent_and_not_freed, frozen_and_not_freed, lost_and_never_freed,
        a_record_of_nobody, a_drain_that_does_not_end,
    ],
    "the living are spared": [
        answered_and_unresponsive, there_and_gone, lost_without_a_fence, fenced_without_cause,
        fenced_before_its_lease_was_over, dropped_without_a_word, one_too_many_evicted, two_evicted_for_one,
        stuck_for_nothing,
    ],
    "one source of truth": [a_count_beside, a_node_that_counts_wrong, told_of_too_many],
    "isolation": [closed_by_the_run_of_another, reset_unasked],
    "convergence": [a_record_without_socket, a_socket_without_record, never_agreed, a_crash],
    "explained": [
        closed_without_evidence, told_something_else, a_click_that_left_nothing, a_failed_click_that_left_nothing,
    ],
    "nothing lost": [
        acknowledged_and_not_stored, stored_twice, a_number_left_out, a_resume_that_leaves_out,
        a_resume_without_the_last, a_resume_of_more_than_is_stored, out_of_order,
    ],
    "no storms": [
        evicted_and_called_back, reset_and_called_back_at_once, a_herd_with_one_delay, a_hundred_handshakes_at_once,
    ],
}  # fmt: skip


def test_a_good_history_holds_all() -> None:
    verdicts = judge(good())
    assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.holds} == {}
    assert all(verdict.checked for verdict in verdicts.values())


def test_each_judge_has_histories_that_it_must_catch() -> None:
    assert WRONG.keys() == JUDGES.keys()


@pytest.mark.parametrize(
    ("name", "doctor"),
    [
        pytest.param(name, doctor, id=f"{name}: {doctor.__name__}")
        for name, doctors in WRONG.items()
        for doctor in doctors
    ],
)
def test_a_wrong_history_is_caught(name: str, doctor: Doctor) -> None:
    history = good()
    doctor(history)
    assert not JUDGES[name](history).holds


def test_a_client_that_could_not_answer_in_time_is_no_living_one() -> None:
    history = good()
    answered_and_unresponsive(history)
    history.windows.append(Window(LAG, "", CALM + 7, CALM + 8))
    assert JUDGES["the living are spared"](history).holds
