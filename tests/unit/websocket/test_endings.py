"""Ends of a socket that a server reports or brings about: a close that it refuses, its own stop, a cancellation."""

import asyncio
from typing import Any

import pytest

from connections.policy.states import CloseReason
from connections.websocket.asgi_types import Message, Receive, Scope, Send
from connections.websocket.endings import end_of_transport
from connections.websocket.transport import is_server_stop
from tests.support.one_socket import ADMITTED, Node, Socket, accepts, managed, until


class Picky(Socket):
    """A socket on a server that refuses close codes by raising, as Daphne and uvicorn do."""

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.close" and message.get("code") == 1011:
            raise ValueError("invalid close code 1011")
        await super().send(message)


async def closes_with_1011(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1011})


def test_a_close_that_the_server_refuses_leaves_the_socket_to_the_server_at_once() -> None:
    async def main() -> None:
        socket, node = Picky(), Node()
        node.decision.set_result(ADMITTED)
        _, running = managed(socket, node, closes_with_1011)
        with pytest.raises(ValueError, match="invalid close code 1011"):
            await asyncio.wait_for(running, 1)  # the server closes the socket for this error, as it does without us
        assert socket.kinds == ["accept"]
        assert not socket.aborted
        [(reason, evidence)] = node.ended
        assert reason is CloseReason.HANDLER_FAILED
        assert evidence == "the server refused its websocket.close with 1011: ValueError('invalid close code 1011')"

    asyncio.run(main())


def test_a_server_that_reports_the_end_before_it_refuses_the_close_is_believed_about_the_refusal() -> None:
    class Hasty(Picky):
        async def send(self, message: Message) -> None:
            if message["type"] == "websocket.close":
                self.arrive({"type": "websocket.disconnect", "code": message["code"], "reason": ""})
            await super().send(message)

    async def main() -> None:
        socket, node = Hasty(), Node()
        node.decision.set_result(ADMITTED)
        _, running = managed(socket, node, closes_with_1011)
        with pytest.raises(ValueError, match="invalid close code 1011"):
            await asyncio.wait_for(running, 1)
        assert [reason for reason, _ in node.ended] == [CloseReason.HANDLER_FAILED]

    asyncio.run(main())


def test_an_application_that_survives_the_refusal_of_its_close_goes_on() -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with pytest.raises(ValueError, match="invalid"):
                await closes_with_1011(scope, receive, send)
            await send({"type": "websocket.send", "text": "still here"})
            await send({"type": "websocket.close", "code": 4001})

        socket, node = Picky(), Node()
        node.decision.set_result(ADMITTED)
        _, running = managed(socket, node, app)
        await asyncio.wait_for(running, 5)
        assert socket.kinds == ["accept", "send", "close"]
        assert node.ended == [(CloseReason.APP_CLOSED, "the application closed it with 4001")]

    asyncio.run(main())


def test_a_close_for_which_the_server_waits_for_the_client_frees_the_slot_at_once() -> None:
    async def main() -> None:
        socket, node = Socket(blocks_on="websocket.close"), Node()
        node.decision.set_result(ADMITTED)
        _, running = managed(socket, node, closes_with_1011)
        await until(lambda: node.ended)
        assert not running.done()
        assert node.ended == [(CloseReason.APP_CLOSED, "the application closed it with 1011")]
        socket.unblock()
        await asyncio.wait_for(running, 5)

    asyncio.run(main())


def ends(disconnect: Message) -> list[tuple[CloseReason, str]]:
    """Let the server report this end of a socket, and return what the node is told."""

    async def main() -> list[tuple[CloseReason, str]]:
        socket, node = Socket(), Node()
        node.decision.set_result(ADMITTED)
        manager, running = managed(socket, node, accepts)
        await until(lambda: manager.accepted)
        socket.arrive({"type": "websocket.disconnect", **disconnect})
        await asyncio.wait_for(running, 5)
        return node.ended

    return asyncio.run(main())


def test_a_server_that_stops_is_recorded_as_such_and_a_client_that_closes_with_the_same_code_is_not() -> None:
    assert ends({"code": 1012}) == [(CloseReason.NODE_DRAINING, "the server stopped, and closed it with 1012")]
    assert ends({"code": 1012, "reason": ""}) == [(CloseReason.CLIENT_GONE, "the connection ended with 1012")]


def test_on_daphne_the_code_of_a_stopping_server_is_always_a_clients() -> None:
    class Autobahn:
        transport = None
        remoteCloseCode = 1012  # noqa: N815 - Autobahn's name

        def send(self) -> None: ...

    disconnect: dict[str, Any] = {"type": "websocket.disconnect", "code": 1012}
    assert not is_server_stop(Autobahn().send, disconnect)
    assert is_server_stop(Socket.send, disconnect)
    assert not is_server_stop(Socket.send, disconnect | {"code": 1006})


def test_only_a_connection_that_ended_abnormally_ended_without_a_close() -> None:
    assert end_of_transport({"code": 1006}, by_server=False)[1] == "the connection ended with 1006, without a close"
    assert end_of_transport({"code": 4001}, by_server=False)[1] == "the connection ended with 4001"


@pytest.mark.parametrize(
    ("leaving", "reason"), [(True, CloseReason.NODE_DRAINING), (False, CloseReason.HANDLER_FAILED)]
)
def test_a_socket_that_the_server_cancels_while_it_stops_is_recorded_as_the_servers_doing(
    leaving: bool, reason: CloseReason
) -> None:
    async def main() -> None:
        socket, node = Socket(), Node()
        node.decision.set_result(ADMITTED)
        manager, running = managed(socket, node, accepts)
        await until(lambda: manager.accepted)
        node.leaving = leaving
        running.cancel()
        await asyncio.wait({running})
        assert [why for why, _ in node.ended] == [reason]

    asyncio.run(main())
