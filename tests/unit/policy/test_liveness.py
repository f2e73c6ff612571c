"""Judging a client: by its heartbeat, and in a roll call."""

from connections.policy.liveness import Pulse, Timeouts, judge, roll_call
from connections.policy.states import CloseReason, Verdict

TIMEOUTS = Timeouts(heartbeat=25, pong=10, probe=5, stuck=60, handshake=10, send=10)


def pulse(**facts: object) -> Pulse:
    healthy: dict[str, object] = {
        "opened": 0.0, "accepted": True, "last_received_at": 100.0, "last_sent_at": 100.0, "pinged_at": None,
        "busy_since": None, "frames_waiting": 0, "send_blocked_since": None,
    }  # fmt: skip
    return Pulse(**(healthy | facts))  # type: ignore[arg-type]


def end_of(at: float, **facts: object) -> CloseReason | None:
    return judge(pulse(**facts), at, TIMEOUTS).end


def test_a_client_is_pinged_after_a_heartbeat_of_silence_on_either_side() -> None:
    assert not judge(pulse(), 124.9, TIMEOUTS).ping
    assert judge(pulse(last_received_at=200.0), 125.0, TIMEOUTS).ping
    assert judge(pulse(last_sent_at=200.0), 125.0, TIMEOUTS).ping


def test_an_unanswered_ping_ends_a_client_as_unresponsive_when_its_time_is_over() -> None:
    assert end_of(134.9, pinged_at=125.0) is None
    assert end_of(135.0, pinged_at=125.0) is CloseReason.UNRESPONSIVE


def test_while_frames_wait_the_handler_is_judged_and_not_the_client() -> None:
    assert end_of(150.0, pinged_at=125.0, frames_waiting=1, busy_since=100.0) is None
    assert end_of(160.0, pinged_at=125.0, frames_waiting=1, busy_since=100.0) is CloseReason.STUCK
    assert end_of(500.0, busy_since=100.0, last_received_at=499.0, last_sent_at=499.0) is None, (
        "busy with nothing waiting is only busy"
    )


def test_a_handler_that_was_long_busy_has_the_whole_time_for_the_first_frame_that_waits() -> None:
    facts: dict[str, object] = {"frames_waiting": 1, "busy_since": 100.0, "waiting_since": 1000.0}
    assert end_of(1059.9, **facts) is None
    assert end_of(1060.0, **facts) is CloseReason.STUCK
    assert end_of(1060.0, **facts | {"busy_since": None}) is None, "it is receiving"
    assert end_of(1060.0, **facts | {"busy_since": 1001.0}) is None, "it took a frame later"


def test_a_roll_call_too_judges_the_handler_and_not_the_client_while_frames_wait() -> None:
    for at, expected in ((159.9, Verdict.ALIVE), (160.0, Verdict.STUCK)):
        found = roll_call(pulse(frames_waiting=1, busy_since=100.0), 120.0, at, TIMEOUTS)
        assert found is not None
        assert found[0] is expected


def test_a_socket_that_is_never_accepted_and_a_client_that_takes_no_bytes_end_for_reasons_of_their_own() -> None:
    assert end_of(9.9, accepted=False) is None
    assert end_of(10.0, accepted=False) is CloseReason.NEVER_OPENED
    assert end_of(110.0, send_blocked_since=100.0) is CloseReason.CLIENT_GONE


def test_a_client_on_a_route_without_injected_frames_is_never_judged_by_its_silence() -> None:
    judged = judge(pulse(probeable=False), 10_000.0, TIMEOUTS)
    assert (judged.end, judged.ping) == (None, False)


def test_the_time_of_a_roll_call_begins_when_its_ping_is_sent() -> None:
    assert roll_call(pulse(), 101.0, 105.9, TIMEOUTS) is None
    silent = roll_call(pulse(), 101.0, 106.0, TIMEOUTS)
    assert silent is not None
    assert silent[0] is Verdict.UNRESPONSIVE
    heard = roll_call(pulse(last_received_at=101.5), 101.0, 200.0, TIMEOUTS)
    assert heard is not None
    assert heard[0] is Verdict.ALIVE
