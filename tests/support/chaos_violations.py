"""Changes to a good chaos history, each of which the judge of an invariant must convict."""

from collections.abc import Callable

from tests.chaos import bounds
from tests.chaos.history import Ack, Click, Closing, Counted, History, Sample, Stored, Window
from tests.support.chaos_history import (
    CALM,
    FROZEN,
    HEALED,
    KILLED,
    add_connection,
    change_connection,
    change_record,
    closed_record,
    make_connection,
)

Spoil = Callable[[History], None]  # changes a good history so that it violates an invariant


def above_the_ceiling(history: History) -> None:
    history.admissions.append(Counted("ada", "chat", history.ceiling + 1, CALM))


def sampled_above_the_ceiling(history: History) -> None:
    history.samples.append(Sample(HEALED, {("ada", "chat"): history.ceiling + 1}))


def stays_above_the_limit(history: History) -> None:
    history.samples[1] = Sample(CALM + 1 + bounds.BACK_AT_LIMIT + bounds.MARGIN + 1, {("ada", "chat"): 9})


def refused_without_cause(history: History) -> None:
    closing = Closing(CALM + 4, 4013, "try_again", "after", 2.0)
    history.connections.append(make_connection(20, admitted=None, manager="", closing=closing))


def add_refused(history: History, code: int, reason: str, reconnect: str = "after", retry_after: float = 2.0) -> None:
    closing = Closing(CALM + 4, code, reason, reconnect, retry_after)
    history.connections.append(make_connection(20, admitted=None, closing=closing))


def refused_as_full(history: History) -> None:
    add_refused(history, 4013, "node_full")


def rate_limited_at_once(history: History) -> None:
    add_refused(history, 4429, "rate_limited")


def replaced_without_a_newer_attempt(history: History) -> None:
    add_refused(history, 4409, "replaced", "never", 0.0)


def sent_away_and_never_admitted(history: History) -> None:
    add_refused(history, 4012, "node_lost")


def failed_without_a_closing_frame(history: History) -> None:
    history.connections.append(make_connection(20, admitted=None, ended=CALM + 1, failed="WSUpgradeFailure: 500"))


def kept_out_for_a_minute(history: History) -> None:
    history.windows.append(Window("lock_gate", "ada", CALM, CALM + 1))
    closing = Closing(CALM + 1, 4013, "try_again", "after", 2.0)
    history.connections.append(make_connection(20, admitted=None, manager="", closing=closing))
    history.connections.append(make_connection(20, began=CALM + 40, attempt=2))


def clients_still_waiting(history: History) -> None:
    history.agreement.waiting = 1


def left_and_freed_late(history: History) -> None:
    change_record(history, "m2", closed=CALM + 5 + bounds.CLEAN_CLOSE + bounds.MARGIN + 1)


def silent_and_freed_late(history: History) -> None:
    change_record(history, "m3", closed=CALM + 5 + bounds.SILENT + bounds.MARGIN + 1)


def frozen_and_freed_late(history: History) -> None:
    history.windows[1].ended = FROZEN + 20
    frozen = make_connection(20, node="node-3", began=FROZEN - 5)
    add_connection(history, frozen, closed_record(frozen, "node_lost", FROZEN + bounds.LOST + bounds.MARGIN + 1))


def lost_and_never_freed(history: History) -> None:
    change_record(history, "m4", state="live", closed=None, reason="")


def a_record_without_a_client(history: History) -> None:
    history.records.append(closed_record(make_connection(30), "client_closed", CALM))


def a_drain_that_does_not_end(history: History) -> None:
    history.drains[0].code = None


def answered_and_unresponsive(history: History) -> None:
    change_connection(history, "m3", silent=None)


def present_and_closed_as_gone(history: History) -> None:
    change_connection(history, "m2", left=None)


def lost_without_a_fence(history: History) -> None:
    history.nodes[1].fenced = None


def fenced_without_cause(history: History) -> None:
    history.nodes[0].fenced = CALM + 5
    history.nodes[0].renewed = CALM


def fenced_before_its_lease_was_over(history: History) -> None:
    history.nodes[1].fenced = KILLED + 1


def dropped_without_a_closing_frame(history: History) -> None:
    history.connections.append(make_connection(20, ended=CALM + 5, code=1006))


def one_too_many_evicted(history: History) -> None:
    ranked = "ranked first of 9 at a limit of 8, after a roll call"
    evicted = make_connection(20, ended=CALM + 9)
    add_connection(history, evicted, closed_record(evicted, "evicted", CALM + 9, closing=CALM + 8.9, evidence=ranked))


def two_evicted_for_one(history: History) -> None:
    for number in (20, 21):
        connection = make_connection(number, ended=CALM + 9)
        why = "ranked first at the ceiling of 11 when 0e-1f connected"
        add_connection(history, connection, closed_record(connection, "evicted", CALM + 9, evidence=why))


def stuck_without_cause(history: History) -> None:
    change_record(history, "m6", reason="stuck")


def a_user_count_that_is_wrong(history: History) -> None:
    history.agreement.listed["ada"] = 2


def a_node_count_that_is_wrong(history: History) -> None:
    history.agreement.by_node["id of node-2"] = 1


def ready_counted_too_many(history: History) -> None:
    change_connection(history, "m1", counted=12)


def closed_by_the_run_of_another(history: History) -> None:
    change_record(history, "m6", run="run-1")


def reset_without_a_click(history: History) -> None:
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
    change_record(history, "m2", evidence="")


def closing_frame_with_another_reason(history: History) -> None:
    change_record(history, "m5", reason="evicted", evidence="ranked first of 9 at a limit of 8, after a roll call")


def a_click_without_an_audit_entry(history: History) -> None:
    history.audit.clear()


def a_failed_click_without_an_audit_entry(history: History) -> None:
    history.clicks.append(Click(CALM, "recover", "bob", "token-2", "node-1", 503, CALM + 1))


def acknowledged_and_not_stored(history: History) -> None:
    history.acks.append(Ack("ada", "c2", "tea", 3))


def stored_twice(history: History) -> None:
    history.messages.append(Stored("ada", "tea", 3, "c1"))


def a_sequence_number_missing(history: History) -> None:
    history.messages[1].seq = 3


def a_resume_that_omits_a_message(history: History) -> None:
    history.agreement.read["tea"] = [2]


def a_resume_without_the_last(history: History) -> None:
    history.agreement.stored["tea"] = 2
    history.agreement.read["tea"] = [1]


def a_resume_of_more_than_is_stored(history: History) -> None:
    history.agreement.read["tea"] = [1, 2, 3]


def delivered_out_of_order(history: History) -> None:
    history.delivery_errors.append("2 of tea came after 4")


def evicted_and_told_to_reconnect(history: History) -> None:
    change_connection(history, "m6", closing=Closing(CALM + 9, 4409, "evicted", "after", 1.0))


def reset_and_told_to_reconnect_at_once(history: History) -> None:
    change_connection(history, "m5", closing=Closing(CALM + 9, 4411, "reset", "after", 0.0))


def many_reset_with_the_same_delay(history: History) -> None:
    closing = Closing(CALM + 9, 4411, "reset", "after", 2.5)
    for number in range(20, 30):
        history.connections.append(make_connection(number, user="bob", ended=CALM + 9, closing=closing))


def a_hundred_handshakes_at_once(history: History) -> None:
    history.connections += [make_connection(number) for number in range(100, 200)]


VIOLATIONS: dict[str, list[Spoil]] = {
    "bounded": [above_the_ceiling, sampled_above_the_ceiling, stays_above_the_limit],
    "never locked out": [
        refused_without_cause, refused_as_full, rate_limited_at_once, replaced_without_a_newer_attempt,
        sent_away_and_never_admitted, failed_without_a_closing_frame,
        kept_out_for_a_minute, clients_still_waiting,
    ],
    "the dead are freed": [
        left_and_freed_late, silent_and_freed_late, frozen_and_freed_late, lost_and_never_freed,
        a_record_without_a_client, a_drain_that_does_not_end,
    ],
    "the living are spared": [
        answered_and_unresponsive, present_and_closed_as_gone, lost_without_a_fence, fenced_without_cause,
        fenced_before_its_lease_was_over, dropped_without_a_closing_frame, one_too_many_evicted, two_evicted_for_one,
        stuck_without_cause,
    ],
    "one source of truth": [a_user_count_that_is_wrong, a_node_count_that_is_wrong, ready_counted_too_many],
    "isolation": [closed_by_the_run_of_another, reset_without_a_click],
    "convergence": [a_record_without_socket, a_socket_without_record, never_agreed, a_crash],
    "explained": [
        closed_without_evidence, closing_frame_with_another_reason, a_click_without_an_audit_entry,
        a_failed_click_without_an_audit_entry,
    ],
    "nothing lost": [
        acknowledged_and_not_stored, stored_twice, a_sequence_number_missing, a_resume_that_omits_a_message,
        a_resume_without_the_last, a_resume_of_more_than_is_stored, delivered_out_of_order,
    ],
    "no storms": [
        evicted_and_told_to_reconnect, reset_and_told_to_reconnect_at_once, many_reset_with_the_same_delay,
        a_hundred_handshakes_at_once,
    ],
}  # fmt: skip
