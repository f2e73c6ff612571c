"""Frames and close codes, against the contract's table."""

import json

from connections.policy.states import CLOSING_FRAMES, CloseReason, Reconnect, Refused
from connections.websocket import frames


def test_a_pong_is_recognised_and_nothing_else_is() -> None:
    assert frames.pong_nonce('{"type": "pong", "nonce": "abc"}') == "abc"
    for text in (None, "", "pong", '{"type":"pong"}', '{"type":"pong","nonce":1}', '["pong"]', '{"type":"pong"' * 20):
        assert frames.pong_nonce(text) is None
    assert frames.pong_nonce('{"type": "user_message", "text": "\\"pong\\""}') is None


def test_every_close_reason_has_the_close_code_of_the_contract() -> None:
    table = {
        4009: ["too_big"], 4012: ["node_draining", "node_lost"], 4013: ["try_again", "node_full"],
        4400: ["protocol_abuse"], 4401: ["login_required"], 4403: ["session_ended", "account_disabled"],
        4408: ["unresponsive", "stuck", "never_opened", "orphaned"], 4409: ["evicted", "replaced"],
        4410: ["closed_by_staff"], 4411: ["reset"], 4412: ["closed_by_user"], 4429: ["rate_limited"],
        4500: ["handler_failed"],
    }  # fmt: skip
    for code, reasons in table.items():
        for reason in reasons:
            assert CLOSING_FRAMES[reason].code == code, reason
    never = {4009, 4400, 4401, 4403, 4409, 4412}
    assert {f.code for f in CLOSING_FRAMES.values() if f.reconnect is Reconnect.NEVER} == never
    ours = set(CloseReason) - {CloseReason.CLIENT_CLOSED, CloseReason.APP_CLOSED}
    assert {str(reason) for reason in ours | set(Refused)} <= {str(reason) for reason in CLOSING_FRAMES}


def test_a_full_node_closes_with_the_code_and_reason_of_the_contract() -> None:
    frame = json.loads(frames.closing(Refused.NODE_FULL, 2.0))
    assert (frame["code"], frame["reason"], frame["reconnect"]) == (4013, "try_again", "after")


def test_a_closing_frame_has_code_reason_and_when_to_reconnect() -> None:
    frame = json.loads(frames.closing(CloseReason.RESET, 1.234567))
    assert frame == {"type": "closing", "code": 4411, "reason": "reset", "reconnect": "after", "retry_after": 1.235}
    assert json.loads(frames.closing(CloseReason.EVICTED, 9.0))["retry_after"] == 0
