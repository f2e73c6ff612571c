"""Since when an application leaves frames waiting, whatever it does with its `receive`."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from connections.websocket.asgi_types import Message
from connections.websocket.clock import NodeClock
from connections.websocket.inbound import Inbound

FRAME = {"type": "websocket.receive", "text": "work"}


class Clock(NodeClock):
    seconds = 100.0

    def now(self) -> float:
        return self.seconds


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 5))


async def waiting(inbound: Inbound) -> "asyncio.Task[Message]":
    """A task that waits for a frame."""
    receiving = asyncio.create_task(inbound.receive())
    await asyncio.sleep(0)
    assert inbound.busy_since is None
    return receiving


async def given_up(inbound: Inbound) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(inbound.receive(), 0.001)


def test_a_handler_that_has_given_up_receiving_is_busy_from_then_on() -> None:
    async def scene() -> None:
        clock = Clock()
        inbound = Inbound(clock)
        receiving = await waiting(inbound)
        clock.seconds = 130.0
        receiving.cancel()
        await asyncio.wait({receiving})
        assert inbound.busy_since == 130.0
        clock.seconds = 140.0
        inbound.put(FRAME)
        assert (inbound.frames_waiting, inbound.waiting_since) == (1, 140.0)

    play(scene())


def test_a_handler_that_gives_up_again_and_again_still_takes_each_frame() -> None:
    async def scene() -> None:
        clock = Clock()
        inbound = Inbound(clock)
        for _ in range(3):
            await given_up(inbound)
            clock.seconds += 100
            inbound.put(FRAME)
            assert await asyncio.wait_for(inbound.receive(), 0.001) == FRAME
            assert (inbound.frames_waiting, inbound.waiting_since) == (0, None)

    play(scene())


def test_a_receive_that_is_cancelled_when_its_frame_has_come_loses_no_frame() -> None:
    async def scene() -> None:
        inbound = Inbound(Clock())
        receiving = await waiting(inbound)
        inbound.put(FRAME)
        receiving.cancel()
        await asyncio.wait({receiving})
        assert receiving.cancelled()
        assert inbound.busy_since is not None
        assert (inbound.frames_waiting, await inbound.receive()) == (1, FRAME)

    play(scene())


def test_a_handler_that_never_receives_is_busy_from_the_start_and_its_connect_is_no_frame_that_waits() -> None:
    async def scene() -> None:
        clock = Clock()
        inbound = Inbound(clock)
        inbound.put({"type": "websocket.connect"})
        assert (inbound.busy_since, inbound.frames_waiting, inbound.waiting_since) == (100.0, 0, None)
        clock.seconds = 500.0
        inbound.put(FRAME)
        assert (inbound.busy_since, inbound.frames_waiting, inbound.waiting_since) == (100.0, 1, 500.0)

    play(scene())


def test_each_frame_that_is_taken_begins_the_wait_of_the_next_one_anew() -> None:
    async def scene() -> None:
        clock = Clock()
        inbound = Inbound(clock)
        for _ in range(3):
            inbound.put(FRAME)
        for left in (2, 1, 0):
            clock.seconds += 50
            await inbound.receive()
            assert inbound.frames_waiting == left
            assert inbound.waiting_since == (clock.seconds if left else None)
        inbound.put(FRAME)
        inbound.clock_set_back(170.0)
        assert (inbound.busy_since, inbound.waiting_since) == (170.0, 170.0)
        inbound.clear()
        assert inbound.waiting_since is None

    play(scene())
