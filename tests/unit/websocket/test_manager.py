"""A manager at the beginning and the end of its socket: an early close, a single accept, and a slow client."""

import asyncio
import json

from connections.conf import Tunables
from connections.policy.states import CloseReason, Refused
from connections.websocket.asgi_types import Message, Receive, Scope, Send
from connections.websocket.outbound import BEHIND_BYTES, BEHIND_FRAMES, DRAIN_POLL_SECONDS
from tests.support.one_socket import ADMITTED, Node, Socket, accepts, managed, until


def test_a_close_that_is_ordered_before_the_admission_ends_the_socket_after_one_accept() -> None:
    async def main() -> None:
        socket, node = Socket(), Node()
        manager, running = managed(socket, node, accepts)
        await node.asked.wait()
        manager.order_close(CloseReason.RESET, "reset: all of them")
        manager.order_close(CloseReason.EVICTED, "the second order")
        assert socket.sent == [], "until it is known whether there is a record, nothing is said"
        node.decision.set_result(ADMITTED)
        await asyncio.wait_for(running, 5)
        assert socket.kinds == ["accept", "send", "close"]
        assert json.loads(socket.sent[1]["text"])["reason"] == "reset"
        assert socket.sent[2]["code"] == 4411
        assert node.ended == [(CloseReason.RESET, "reset: all of them")]

    asyncio.run(main())


def test_an_order_with_a_reason_of_a_newer_version_is_carried_out_with_its_own_word() -> None:
    async def main() -> None:
        socket, node = Socket(), Node()
        manager, running = managed(socket, node, accepts)
        node.decision.set_result(ADMITTED)
        await until(lambda: manager.accepted)
        manager.order_close(CloseReason("quarantined"), "by a node of the next release")
        await asyncio.wait_for(running, 5)
        assert socket.kinds == ["accept", "send", "close"]
        told = json.loads(socket.sent[1]["text"])
        assert (told["reason"], told["code"], told["reconnect"]) == ("quarantined", 4408, "after")
        assert told["retry_after"] > 0
        assert socket.sent[2]["code"] == 4408
        assert node.ended == [("quarantined", "by a node of the next release")]

    asyncio.run(main())


def test_a_managers_attributes_fit_into_a_key_sharing_dictionary() -> None:
    async def main() -> None:
        manager, running = managed(Socket(), Node(), accepts)
        assert len(vars(manager)) <= 30
        running.cancel()

    asyncio.run(main())


def test_a_refusal_stands_even_if_a_close_was_ordered_before_it() -> None:
    async def main() -> None:
        socket, node = Socket(), Node()
        manager, running = managed(socket, node, accepts)
        await node.asked.wait()
        manager.order_close(CloseReason.NODE_DRAINING, "node web-1 is draining")
        node.decision.set_result(Refused.ACCOUNT_DISABLED)
        await asyncio.wait_for(running, 5)
        assert socket.kinds == ["accept", "send", "close"]
        assert socket.sent[2]["code"] == 4403
        assert [reason for reason, _ in node.ended] == [CloseReason.NODE_DRAINING], "which frees what may be there"

    asyncio.run(main())


def test_an_accept_of_the_application_after_the_end_is_not_sent() -> None:
    async def main() -> None:
        socket, node = Socket(), Node()
        told = asyncio.Event()

        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            told.set()
            while (await receive())["type"] != "websocket.disconnect":
                pass
            await send({"type": "websocket.accept"})

        manager, running = managed(socket, node, late)
        node.decision.set_result(ADMITTED)
        await told.wait()
        manager.order_close(CloseReason.NEVER_OPENED, "never accepted")
        await asyncio.wait_for(running, 5)
        assert socket.kinds == ["accept", "send", "close"]
        assert not manager.accepted, "the application has not"

    asyncio.run(main())


def test_a_socket_whose_accept_blocks_gets_no_second_accept_and_is_cut_off() -> None:
    async def main() -> None:
        socket, node = Socket(blocks_on="websocket.accept"), Node()
        manager, running = managed(socket, node, accepts)
        node.decision.set_result(ADMITTED)
        async with asyncio.timeout(5):
            while not socket.sent:
                await asyncio.sleep(0)
        manager.order_close(CloseReason.NEVER_OPENED, "never accepted")
        await asyncio.sleep(0.1)
        socket.unblock()  # too late: a manager that had waited for the accept would now send a second one
        await asyncio.wait_for(running, 5)
        assert socket.kinds == ["accept"]
        assert socket.aborted
        assert [reason for reason, _ in node.ended] == [CloseReason.NEVER_OPENED]

    asyncio.run(main())


class SlowSocket(Socket):
    """The socket of a slow client, on a server that waits for the client (uvicorn) or buffers all messages (Daphne)."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.kept = 0  # bytes in the buffer of a server that does not wait

    def get_write_buffer_size(self) -> int:
        return self.kept

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            await asyncio.sleep(self.seconds)
        await super().send(message)


async def is_accepted(socket: Socket) -> None:
    async with asyncio.timeout(5):
        while not socket.sent:
            await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_frames_that_a_manager_has_queued_for_a_slow_client_are_sent_however_long_it_takes() -> None:
    async def main() -> None:
        socket, node = SlowSocket(seconds=0.05), Node()
        node.tunables = Tunables(send_seconds=0.12)
        manager, running = managed(socket, node, accepts)
        node.decision.set_result(ADMITTED)
        await is_accepted(socket)
        assert all(manager.deliver(f"frame {number}") for number in range(6))
        async with asyncio.timeout(5):
            while len(socket.sent) < 7:
                await asyncio.sleep(0.01)
        assert [message["text"] for message in socket.sent[1:]] == [f"frame {number}" for number in range(6)]
        manager.deliver("for nobody")
        manager.order_close(CloseReason.RESET, "reset")
        await asyncio.wait_for(running, 5)
        await asyncio.sleep(0)
        assert manager.outbound._background == set(), "nothing is left of what was promised to a socket that has ended"

    asyncio.run(main())


def test_an_application_waits_for_a_client_that_is_too_far_behind_but_not_after_the_end() -> None:
    async def main() -> None:
        socket, node = SlowSocket(), Node()
        sent: list[int] = []

        async def talks(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            for number in range(3):
                await send({"type": "websocket.send", "text": f"frame {number}"})
                sent.append(number)
                socket.kept = 2 * BEHIND_BYTES

        manager, running = managed(socket, node, talks)
        node.decision.set_result(ADMITTED)
        await is_accepted(socket)
        await asyncio.sleep(4 * DRAIN_POLL_SECONDS)
        assert sent == [0]
        socket.kept = 0
        await asyncio.sleep(4 * DRAIN_POLL_SECONDS)
        assert sent == [0, 1]
        manager.order_close(CloseReason.RESET, "reset")
        await asyncio.wait_for(running, 5)
        assert [m["text"] for m in socket.sent if m["type"] == "websocket.send"][:2] == ["frame 0", "frame 1"]
        assert "frame 2" not in [message.get("text") for message in socket.sent]

    asyncio.run(main())


def test_many_frames_that_are_delivered_at_once_do_not_make_a_quick_client_count_as_behind() -> None:
    """As the events so far of a long turn, for a client that has just come."""
    many = 2 * BEHIND_FRAMES

    async def main() -> None:
        socket, node = Socket(), Node()
        node.decision.set_result(ADMITTED)
        manager, running = managed(socket, node, accepts)
        await is_accepted(socket)
        assert manager.deliver(*("x" * many))
        assert not manager.deliver("these have not gone out yet")
        await asyncio.sleep(0.01)
        assert manager.deliver("now they have")
        await asyncio.sleep(0.01)
        assert socket.kinds.count("send") == many + 1
        manager.order_close(CloseReason.RESET, "")
        await running

    asyncio.run(main())
