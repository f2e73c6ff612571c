"""The manager: it owns one WebSocket, knows whether its client is alive, and can close it whatever the app does.

It stands between the server and an unmodified ASGI application. It always reads, into a bounded inbox, so that the
server's own pong handling never starves; it sends the pings and the closing frame; and it ends in `run`'s `finally`,
which hands the release to the writer without awaiting anything.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from connections.policy.admission import Admission, Handshake
from connections.policy.liveness import Pulse
from connections.policy.states import CloseReason, Refused, Verdict
from connections.websocket import closing as farewell
from connections.websocket import frames
from connections.websocket.app_task import Handler
from connections.websocket.asgi_types import App, Message, Receive, Scope, Send
from connections.websocket.closing import GOODBYE_SECONDS
from connections.websocket.host import Host
from connections.websocket.inbound import Inbox
from connections.websocket.outbound import Outlet
from connections.websocket.probe import Probe
from connections.websocket.wakeup import Waiter

logger = logging.getLogger(__name__)


class Manager:
    """One of a node's thousands. With more than 30 attributes Python gives each a dictionary of its own, of 1 KiB."""

    def __init__(
        self,
        host: Host,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        handshake: Handshake,
        inject: bool,
        server_send: Send | None = None,
    ) -> None:
        self.handshake = handshake
        self.id: UUID = handshake.id
        self.user_id: Any = handshake.user_id
        self.pool = handshake.pool
        self.inject = inject
        self.session_hash = ""
        self.admission: Admission | None = None
        self.ended: CloseReason | None = None

        self.inbox = Inbox(host.clock)
        self.outlet = Outlet(send, host.clock, server_send)
        self.opened = self.heard = self.active = host.clock.now()
        self.accepted = False
        self.pinged: float | None = None
        self.turns = 0
        self.turn_began: float | None = None
        self.probe: Probe | None = None
        self.observed: CloseReason | None = None  # in observe mode: what it would have been closed for
        self.written: tuple[Any, ...] = ()  # what the last beat wrote of it

        self._host = host
        self._receive = receive
        self._subprotocols: list[str] = list(scope.get("subprotocols") or ())
        self._waiter = Waiter()  # told of whatever happens to the socket
        self._connect_seen = False
        self._accepting = False
        self._denying = False
        self._gone: int | None = None  # the close code, once the transport has ended
        self._ordered: tuple[CloseReason, str] | None = None
        self._pings = 0

    # For the application

    @contextmanager
    def turn(self) -> Iterator[None]:
        """An agent turn is in flight: while it lasts, others are evicted first."""
        if self.turns == 0:
            self.turn_began = self._host.clock.now()
        self.turns += 1
        try:
            yield
        finally:
            self.turns -= 1
            if self.turns == 0:
                self.turn_began = None

    def deliver(self, text: str) -> bool:
        """Send one text frame beside the application; on the event loop. False if it was not sent: the socket is not
        open, or its client is too far behind.
        """
        if self.closing or not self.accepted or self.outlet.behind:
            return False
        # Under no time limit, so that what was promised is not dropped: their number is bounded, and whether the client
        # takes anything is judged by the heartbeat.
        self.outlet.beside({"type": "websocket.send", "text": text}, None)
        return True

    def order(self, reason: CloseReason, evidence: str) -> None:
        """Close this socket, with the code and frame of `reason`, whatever its application is doing. The first order
        stands, and is kept until admission has returned.
        """
        if not self.closing:
            self._ordered = (reason, evidence)
            self._waiter.notify()

    # For the node

    @property
    def closing(self) -> bool:
        return self._ordered is not None or self.ended is not None

    def pulse(self, now: float) -> Pulse:
        return Pulse(
            opened=self.opened,
            accepted=self.accepted,
            heard=min(self.heard, now),  # the clock may have been set back since
            told=min(self.outlet.told, now),
            pinged=self.pinged,
            busy=self.inbox.taken,
            waiting=len(self.inbox),
            sending=self.outlet.stalled(now),
            probeable=self.inject,
        )

    def ping(self) -> None:
        """Ask the client for a sign of life, which only an inbound frame is, and have its answer waited for."""
        if self.pinged is None:
            self.pinged = self._host.clock.now()
        self.ask()

    def ask(self) -> None:
        """The same for a roll call: it judges by its own rule, and one that only reports may not end in a close."""
        self._pings += 1
        # Whether a client that has not taken it in time is gone or only slow, the heartbeat judges.
        ping: Message = {"type": "websocket.send", "text": frames.ping(f"{self.id}.{self._pings}")}
        self.outlet.beside(ping, self._host.tunables.send_seconds)

    # The application's send; its receive is inbox.take

    async def send(self, message: Message) -> None:
        if self.closing and not self._denying:
            return  # it hears of the end by its disconnect
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepting = True
            await self.outlet.forward(message)
            self.accepted = True
            self._host.accepted(self)
        elif kind == "websocket.close":
            where = f"with {message.get('code') or 1000}" if self.accepted else "before accepting"
            self._end(CloseReason.APP_CLOSED, f"the application closed it {where}")
            await self.outlet.forward(message)
        elif kind == "websocket.send":
            await self.outlet.room(lambda: self.closing)
            if not self.closing:
                await self.outlet.forward(message)
        else:
            if kind.startswith("websocket.http.response"):
                self._denying = True
                self._end(CloseReason.APP_CLOSED, "the application refused it with a response of its own")
            await self.outlet.forward(message)

    # The pump

    async def _pump(self) -> None:
        end: Message = {"type": "websocket.disconnect", "code": 1006}
        try:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.receive":
                    self._inbound(message)
                elif message["type"] == "websocket.disconnect":
                    end = message
                    break
                else:
                    self._connect_seen = True
                    self.inbox.put(message)
                    self._waiter.notify()
        except Exception:
            logger.exception("receive_failed", extra={"manager": str(self.id)})
        self._transport_ended(end)

    def _inbound(self, message: Message) -> None:
        self.heard = self._host.clock.now()
        self.pinged = None
        if self.probe is not None and self.probe.verdict is None:
            self.probe.answer(Verdict.ALIVE, "answered the roll call")
            self._host.probe_answered()
        if self.inject:
            nonce = frames.pong_nonce(message.get("text"))
            if nonce is not None and nonce.startswith(str(self.id)):
                return
        self.active = self.heard
        if self.closing:
            return
        limits = self._host.tunables
        overflow = self.inbox.overflow(message, frames=limits.queue_frames, size=limits.queue_bytes)
        if overflow:
            self.order(CloseReason.STUCK, f"{overflow} waited for its handler")
        else:
            self.inbox.put(message)

    def _transport_ended(self, message: Message) -> None:
        code = self._gone = message.get("code") or 1005
        if self._ordered is not None:
            self.inbox.clear()
        elif code in (1000, 1001, 1005):
            self._end(CloseReason.CLIENT_CLOSED, f"the client closed it with {code}")
        else:
            self._end(CloseReason.CLIENT_GONE, f"the connection ended with {code}, without a close")
        self.inbox.put(message)
        self._waiter.notify()

    # From start to end

    async def run(self, app: App, scope: Scope) -> None:
        """Own the socket until it has ended. Raises what the application raised, after the socket was closed."""
        pump = asyncio.create_task(self._pump(), name=f"pump {self.id}")
        handler: Handler | None = None
        try:
            await self._waiter.until(lambda: self._connect_seen or self._gone is not None)
            if self._gone is None and await self._admitted():
                receive, name = self.inbox.take, f"app {self.id}"
                handler = Handler(app, scope, receive, self.send, name=name, on_end=self._waiter.notify)
                await self._waiter.until(lambda: handler.done or self._ordered is not None or self._gone is not None)
                await self._conclude(handler)
        finally:
            if handler is not None:
                handler.cancel()
            cancelled = CloseReason.NODE_DRAINING if self._host.leaving else CloseReason.HANDLER_FAILED
            self._end(*(self._ordered or (cancelled, "the server cancelled it")))
            self.outlet.stop()
            pump.cancel()

    async def _admitted(self) -> bool:
        decision = await self._host.admit(self)
        if isinstance(decision, Refused):
            await self._say(decision, self._host.retry_after(self, decision))
            await self._cut_off()
            return False
        self.admission = decision
        return self._gone is None

    async def _conclude(self, handler: Handler) -> None:
        """The client, an order or the application has ended it: end the other two."""
        if self._ordered is not None:
            await self._goodbye(*self._ordered)
        elif self._gone is None:
            await self._app_ended(handler)
        if self._gone is None:
            self.inbox.clear()
            self.inbox.put({"type": "websocket.disconnect", "code": 1006})
        await self._cut_off()
        if not await handler.end(self._host.tunables.grace_seconds):
            self._host.abandoned(self)
        elif not handler.cancelled and not self.outlet.failed and handler.error is not None:
            raise handler.error

    async def _app_ended(self, handler: Handler) -> None:
        if self.ended is not None:
            return  # it closed the socket itself
        if handler.error is None:
            where = "" if self.accepted else " before accepting"
            self._end(CloseReason.APP_CLOSED, f"the application returned{where}")
            await self.outlet.bounded(self.outlet.forward({"type": "websocket.close"}), GOODBYE_SECONDS)
        elif self.outlet.failed:
            self._end(CloseReason.CLIENT_GONE, "the connection ended while the application was sending")
        else:
            await self._goodbye(CloseReason.HANDLER_FAILED, f"its handler ended with {type(handler.error).__name__}")

    async def _goodbye(self, reason: CloseReason, evidence: str) -> None:
        """Tell the client, close, and only then free the slot. A client that does not take it is cut off."""
        if self.ended is None and self._gone is None:
            self._ordered = (reason, evidence)  # the client's answer to our close is no ending of its own
            await self._say(reason)
        self._end(reason, evidence)

    async def _say(self, reason: str, retry_after: float | None = None) -> None:
        if self._accepting and not self.accepted:
            self.outlet.cut()  # the server is stuck in the application's accept, and there is only one
            return
        saying = farewell.say(
            self.outlet.forward,
            reason,
            inject=self.inject,
            accept=not self.accepted,
            subprotocols=self._subprotocols,
            retry_after=retry_after,
        )
        if not await self.outlet.bounded(saying, GOODBYE_SECONDS):
            self.outlet.cut()

    async def _cut_off(self) -> None:
        """The transport must really end: wait as long as a close handshake takes, then abort it."""
        if not await self._waiter.until(lambda: self._gone is not None, GOODBYE_SECONDS):
            self.outlet.cut()

    def _end(self, reason: CloseReason, evidence: str) -> None:
        """The slot is free from here on, whatever the application still does. The first reason stands."""
        if self.ended is None:
            self.ended = reason
            self._host.released(self, reason, evidence)
