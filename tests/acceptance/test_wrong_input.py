"""Wrong input gets a clear answer, and changes nothing."""

import json
import uuid

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.clients import connect, connected, run
from tests.support.databases import Database
from tests.support.processes import manage, manage_each
from tests.support.scenes import PAUSED, Serve, check_chat_works, records, rows_except_probes

UNKNOWN = [
    ["list_managers", "--user", "nobody"],
    ["list_managers", "--node", "nowhere"],
    ["diagnose_user", "#999999"],
    ["recover_user", "#not-a-key"],
    ["recover_user", "nobody@example.org", "--reset"],
    ["set_limit", "nobody", "5"],
    ["drain_node", "nowhere"],
]
NOT_UNDERSTOOD = [
    ["recover_user"],
    ["diagnose_user", "u1", "--no-such"],
    ["list_managers", "--state", "asleep"],
    ["set_limit", "u1"],
    ["set_limit", "u1", "0"],
    ["set_limit", "u1", "5", "--clear"],
    ["set_limit", "u1", "5", "--for", "a while"],
    ["prune_history", "--older-than", "30"],
    ["sweep", "--twice"],
    ["serve", "--port", "http"],
]


def test_commands_answer_with_one_clear_line_or_their_usage(database: Database) -> None:
    before = rows_except_probes(database)
    audit = "SELECT count(*) FROM connections_auditentry"

    results = manage_each([[*arguments, "--json"] for arguments in UNKNOWN + NOT_UNDERSTOOD], db=database)
    unknown = zip(UNKNOWN, results, strict=False)
    not_understood = zip(NOT_UNDERSTOOD, results[len(UNKNOWN) :], strict=True)
    for arguments, result in unknown:
        assert (result.code, result.out) == (1, ""), (arguments, result)
        assert len(result.err.strip().splitlines()) == 1, (arguments, result.err)
        assert "Traceback" not in result.err
    for arguments, result in not_understood:
        assert (result.code, result.out) == (2, ""), (arguments, result)
        assert "Traceback" not in result.err
        assert result.err.strip(), arguments
    assert rows_except_probes(database) == before
    assert database.query(audit) == [(0,)]


def test_the_server_refuses_to_start_on_contradictions(database: Database) -> None:
    for settings, word in (
        ({"lease_seconds": 3}, "LEASE"),
        ({"beat_seconds": "soon"}, "BEAT"),
        ({"connect_rate": "often"}, "CONNECT_RATE"),
    ):
        result = manage("serve", "--port", "1", db=database, **settings)
        assert result.code == 1, result
        assert word in result.err
        assert "Traceback" not in result.err
    result = manage("serve", "--host", "0.0.0.0", "--port", "1", db=database)  # noqa: S104
    assert result.code == 1
    assert "ALLOWED_HOSTS" in result.err


BAD_FRAMES: list[str | bytes] = [
    "{",
    "",
    "[]",
    '"hello"',
    "null",
    "{}",
    '{"type": 5}',
    '{"type": "no_such_type"}',
    '{"type": "pong"}',
    '{"type": "user_message"}',
    '{"type": "user_message", "client_id": "7", "conversation": null, "text": "hi"}',
    json.dumps({"type": "user_message", "client_id": str(uuid.UUID(int=1)), "conversation": None, "text": ""}),
    json.dumps({"type": "user_message", "client_id": str(uuid.UUID(int=1)), "conversation": None, "text": "x" * 8193}),
    json.dumps({"type": "user_message", "client_id": str(uuid.UUID(int=1)), "conversation": None, "text": ["hi"]}),
    json.dumps({"type": "resume", "conversation": str(uuid.UUID(int=1)), "after_seq": "first"}),
    json.dumps({"type": "resume", "conversation": str(uuid.UUID(int=1)), "after_seq": 0}),
    '{"type": "resume"}',
    '{"type": "close_sessions"}',
    '{"type": "close_sessions", "managers": "all"}',
    '{"type": "close_sessions", "managers": ["7"]}',
    "[" * 20_000,
    '{"type": ' + "[" * 5_000 + "]" * 5_000 + "}",
    b"\x00\xff",
    b'{"type": "list_sessions"}',
]


def test_bad_frames_get_an_error_and_the_socket_stays_open(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings())
    user = database.user("u1")

    async def main() -> None:
        async with connected(server, user) as client:
            for frame in BAD_FRAMES:
                await client.send_raw(frame)
                if frame == '{"type": "pong"}':  # an unexpected pong is ignored, even without a nonce
                    continue
                answer = await client.expect("error")
                assert answer["code"], frame
                assert answer["message"], frame
            await check_chat_works(client)
            assert client.is_open
        async with connected(server, user) as client:
            await client.send_raw(json.dumps({"type": "x", "text": "x" * 65 * 1024}))
            assert await client.closed() == 4009
            assert client.closing is not None
            assert (client.closing["reason"], client.closing["reconnect"]) == ("too_big", "never")
        async with connected(server, user) as client:
            for _ in range(60):
                await client.send("list_sessions")
            assert await client.closed() == 4400
            assert client.closing is not None
            assert (client.closing["reason"], client.closing["reconnect"]) == ("protocol_abuse", "never")

    run(main())


def test_an_invalid_origin_is_refused_as_a_foreign_one(serve: Serve, database: Database) -> None:
    """Daphne itself refuses an invalid origin with 400."""
    server = serve(database, kind="uvicorn", ready="/readyz", **PAUSED.settings())

    async def main() -> None:
        for origin in ("http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:port"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server, None, origin=origin)
            assert refused.value.response.status_code == 403

    run(main())
    assert "Traceback" not in server.output()


def test_clients_that_may_not_connect_get_a_clear_answer(serve: Serve, database: Database) -> None:
    server = serve(database, ready="/readyz", **PAUSED.settings())
    user, disabled = database.user("u1"), database.user("u2")
    database.query("UPDATE auth_user SET is_active = ? WHERE id = ?", [False, disabled.id])

    async def main() -> None:
        for origin in ("https://evil.example.org", None, "null"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server, user, origin=origin)
            assert refused.value.response.status_code == 403
        for who, code, reason in ((None, 4401, "login_required"), (disabled, 4403, "account_disabled")):
            client = await connect(server, who, subprotocols=["chat"])
            assert await client.closed() == code
            assert client.socket.subprotocol == "chat"
            assert client.closing is not None
            assert (client.closing["code"], client.closing["reason"]) == (code, reason)
            assert client.closing["reconnect"] == "never"
        # An invalid device or attempt is ignored, and the client is admitted.
        for query in ({"device": "7"}, {"device": ""}, {"attempt": -1}, {"attempt": 10**30}):
            client = await connect(server, user, **query)
            await client.expect("ready")

    run(main())
    assert records(database, disabled) == []
