"""Carry out a schedule. Each fault has a window in the history, from its beginning until its repair."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import psycopg

from tests.chaos.cluster import Cluster
from tests.chaos.crowd import Crowd
from tests.chaos.schedule import NODES, ON_NODES, ON_STORES, Fault, Kind
from tests.chaos.staff import Staff


class Faults:
    def __init__(self, cluster: Cluster, crowd: Crowd, rng: random.Random) -> None:
        self._cluster = cluster
        self._history = cluster.history
        self._crowd = crowd
        self._staff = Staff(cluster)
        self._rng = rng
        self._busy = defaultdict[str, asyncio.Lock](asyncio.Lock)
        self._do: dict[Kind, Callable[[Fault], Awaitable[None]]] = {
            Kind.KILL: self._kill,
            Kind.FREEZE: self._freeze,
            Kind.DRAIN: self._drain,
            Kind.CUT_DATABASE: self._relay,
            Kind.HOLD_DATABASE: self._relay,
            Kind.CUT_CLIENTS: self._relay,
            Kind.HOLD_CLIENTS: self._relay,
            Kind.BUS_RESTART: self._bus_restart,
            Kind.BUS_FREEZE: self._bus_freeze,
            Kind.DATABASE_RESTART: self._database_restart,
            Kind.DATABASE_FREEZE: self._database_freeze,
            Kind.LOCK_GATE: self._lock_gate,
            Kind.HALF_OPEN: self._tabs,
            Kind.SILENCE: self._tabs,
            Kind.VANISH: self._tabs,
            Kind.STAMPEDE: self._stampede,
            Kind.RECOVER: self._click,
            Kind.RESET: self._click,
            Kind.CHECK: self._click,
            Kind.DOUBLE_CLICK: self._double_click,
        }

    async def carry_out(self, faults: list[Fault], seconds: float) -> None:
        """Begin each fault at its time. Return after `seconds`, once all faults are repaired."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
                group.create_task(self._one(fault), name=str(fault))
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))

    async def _one(self, fault: Fault) -> None:
        """Carry out one fault. The faults on one node or store wait for each other, since a start may take longer than
        the schedule allows for.
        """
        async with self._busy[fault.target] if fault.kind in ON_NODES or fault.kind in ON_STORES else nullcontext():
            window = self._history.open_window(fault.kind, self._target(fault))
            await self._do[fault.kind](fault)
            window.ended = time.time()

    def _target(self, fault: Fault) -> str:
        return self._person(fault) if fault.kind is Kind.LOCK_GATE else fault.target

    def _person(self, fault: Fault) -> str:
        return self._crowd.people[int(fault.target)].user.name

    # Nodes

    async def _kill(self, fault: Fault) -> None:
        await self._cluster.kill(fault.target)
        await asyncio.sleep(fault.seconds)
        await self._cluster.restart(fault.target)

    async def _drain(self, fault: Fault) -> None:
        await self._cluster.drain(fault.target)
        await asyncio.sleep(fault.seconds)
        await self._cluster.restart(fault.target)

    async def _freeze(self, fault: Fault) -> None:
        server = self._cluster.nodes[fault.target].server
        server.freeze()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            server.thaw()

    # The network

    async def _relay(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.target]
        relay = node.database_relay if fault.kind in (Kind.CUT_DATABASE, Kind.HOLD_DATABASE) else node.client_relay
        if fault.kind in (Kind.CUT_DATABASE, Kind.CUT_CLIENTS):
            relay.cut()
        else:
            relay.hold()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            relay.restore()

    # The stores

    async def _bus_restart(self, fault: Fault) -> None:
        await self._cluster.valkey.restart(fault.seconds)

    async def _bus_freeze(self, fault: Fault) -> None:
        self._cluster.valkey.freeze()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._cluster.valkey.thaw()

    async def _database_restart(self, fault: Fault) -> None:
        await asyncio.to_thread(self._cluster.postgres.stop, hard=fault.hard)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._cluster.postgres.start)

    async def _database_freeze(self, fault: Fault) -> None:
        self._cluster.postgres.freeze()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._cluster.postgres.thaw()

    # Users

    async def _lock_gate(self, fault: Fault) -> None:
        user = self._crowd.people[int(fault.target)].user
        try:
            async with await psycopg.AsyncConnection.connect(self._cluster.database.url, connect_timeout=2) as stranger:
                await stranger.execute("SELECT 1 FROM connections_usergate WHERE user_id = %s FOR UPDATE", [user.id])
                await asyncio.sleep(fault.seconds)
        except psycopg.OperationalError:
            return  # another fault has taken the database away meanwhile, and so the lock is gone

    async def _tabs(self, fault: Fault) -> None:
        for tab in self._crowd.pick_open(fault.count):
            if fault.kind is Kind.VANISH:
                tab.leave("vanished")
            else:
                tab.fall_silent(half_open=fault.kind is Kind.HALF_OPEN)

    async def _stampede(self, fault: Fault) -> None:
        self._crowd.add(self._crowd.people[int(fault.target)], fault.count)

    async def _click(self, fault: Fault) -> None:
        user = self._crowd.people[int(fault.target)].user
        await self._staff.click(fault.kind.value, user, self._rng.choice(NODES))

    async def _double_click(self, fault: Fault) -> None:
        user = self._crowd.people[int(fault.target)].user
        await asyncio.gather(*(self._staff.click("recover", user, name) for name in self._rng.sample(NODES, 2)))
