"""The manager: it owns one WebSocket, knows when its client last sent, and can close it whatever the app does.

It never stops reading, into a bounded queue, so that the server always gets to its own ping and pong frames.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from connections.policy.admission import Admission, Handshake
from connections.policy.liveness import Pulse
from connections.policy.states import CloseReason, Refused, Verdict
from connections.websocket import endings, frames
from connections.websocket.app_task import AppTask
from connections.websocket.asgi_types import App, Message, Receive, Scope, Send
from connections.websocket.closing import CLOSE_SECONDS, close_or_abort, until_disconnect
from connections.websocket.host import Host
from connections.websocket.inbound import Inbound
from connections.websocket.outbound import Outbound
from connections.websocket.probe import Probe
from connections.websocket.wakeup import Wakeup

logger = logging.getLogger(__name__)


class Manager:
    """One for each WebSocket. Keep to 30 attributes: with more, Python gives each manager a dictionary of 1 KiB."""

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

        self.inbound = Inbound(host.clock)
        self.outbound = Outbound(send, host.clock, server_send)
        self.opened = self.last_received_at = self.last_active_at = host.clock.now()
        self.accepted = False
        self.pinged_at: float | None = None
        self.turns = 0
        self.turn_began: float | None = None
        self.probe: Probe | None = None
        self.would_close_for: CloseReason | None = None  # in observe mode: the reason that was logged last
        self.written_facts: tuple[Any, ...] = ()  # the facts of this manager that the last beat stored

        self._host = host
        self._receive = receive
        self._subprotocols: list[str] = list(scope.get("subprotocols") or ())
        self._wakeup = Wakeup()  # notified of every change that `run` waits for
        self._connect_seen = self._accepting = self._denying = False
        self._gone: int | None = None  # the close code, once the transport has ended
        self._order: tuple[CloseReason, str] | None = None  # what `order_close` was given
        self._pings = 0

    # For the application

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Mark an agent turn as in flight: while the block runs, managers without a turn are evicted first."""
        if self.turns == 0:
            self.turn_began = self._host.clock.now()
        self.turns += 1
        try:
            yield
        finally:
            self.turns -= 1
            self.turn_began = self.turn_began if self.turns else None

    def deliver(self, *texts: str) -> bool:
        """Send these frames beside the application; none if the socket is not open, or its client too far behind."""
        if self.closing or not self.accepted or self.outbound.behind:
            return False
        # No time-out here: the number of frames is bounded, and the keepalive closes a client that takes none.
        for text in texts:
            self.outbound.send_in_background({"type": "websocket.send", "text": text}, None)
        return True

    def order_close(self, reason: CloseReason, evidence: str) -> None:
        """Have `run` close this socket with the code and frame of `reason`, whatever the app does. Only the first order
        counts. One that comes before the admission has returned is carried out after it.
        """
        if not self.closing:
            self._order = (reason, evidence)
            self._wakeup.notify()

    @property
    def closing(self) -> bool:
        return self._order is not None or self.ended is not None

    def pulse(self, now: float) -> Pulse:
        return Pulse(
            opened=self.opened,
            accepted=self.accepted,
            last_received_at=self.last_received_at,
            last_sent_at=self.outbound.last_sent_at,
            pinged_at=self.pinged_at,
            busy_since=self.inbound.busy_since,
            frames_waiting=self.inbound.frames_waiting,
            send_blocked_since=self.outbound.blocked_since(now),
            probeable=self.inject,
            waiting_since=self.inbound.waiting_since,
        )

    def clock_set_back(self, now: float) -> None:
        """Set times after `now` to `now`: they were recorded between a stall of the process and the next tick."""
        self.opened = min(self.opened, now)
        self.last_received_at, self.last_active_at = min(self.last_received_at, now), min(self.last_active_at, now)
        self.inbound.clock_set_back(now)
        self.outbound.clock_set_back(now)

    def ping(self) -> None:
        """Ping the client and note when: if no frame comes in time, the keepalive closes the socket."""
        if self.pinged_at is None:
            self.pinged_at = self._host.clock.now()
        self.send_ping()

    def send_ping(self) -> None:
        """Send a ping without noting when: a roll call has its own deadline, and may only report."""
        self._pings += 1
        ping: Message = {"type": "websocket.send", "text": frames.ping(f"{self.id}.{self._pings}")}
        self.outbound.send_in_background(ping, self._host.tunables.send_seconds)

    # The application's ASGI send. Its ASGI receive is `inbound.receive`.
    async def send(self, message: Message) -> None:
        if self.closing and not self._denying:
            return  # the application learns of the end from websocket.disconnect
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepting = True
            await self.outbound.forward(message)
            self.accepted = True
            self._host.accepted(self)
        elif kind == "websocket.close" or (kind.startswith("websocket.http.response") and not self._denying):
            self._denying = kind != "websocket.close"
            evidence = endings.close_of_application(message, accepted=self.accepted)
            await self.outbound.forward_end(message, partial(self._end, CloseReason.APP_CLOSED, evidence))
        elif kind == "websocket.send":
            await self.outbound.wait_for_drain(lambda: self.closing)
            if not self.closing:
                await self.outbound.forward(message)
        else:
            await self.outbound.forward(message)

    async def _pump(self) -> None:
        end = endings.abnormal()
        try:
            end = await until_disconnect(self._receive, self._on_message)
        except Exception:  # a server that can't receive has ended the socket
            logger.exception("receive_failed", extra={"manager": str(self.id)})
        self._transport_ended(end)

    def _on_message(self, message: Message) -> None:
        if message["type"] == "websocket.receive":
            self._on_frame(message)
        else:
            self._connect_seen = True
            self.inbound.put(message)
            self._wakeup.notify()

    def _on_frame(self, message: Message) -> None:
        self.last_received_at = self._host.clock.now()
        self.pinged_at = None
        probe = self.probe  # the beat's thread may set it to None at any time
        if probe is not None and probe.verdict is None:
            probe.answer(Verdict.ALIVE, "answered the roll call")
            self._host.probe_answered()
        if self.inject:
            nonce = frames.pong_nonce(message.get("text"))
            if nonce is not None and nonce.startswith(str(self.id)):
                return
        self.last_active_at = self.last_received_at
        if self.closing:
            return
        limits = self._host.tunables
        overflow = self.inbound.overflow(message, frames=limits.queue_frames, size=limits.queue_bytes)
        if overflow:
            self.order_close(CloseReason.STUCK, f"{overflow} waited for its handler")
        else:
            self.inbound.put(message)

    def _transport_ended(self, message: Message) -> None:
        self._gone = message.get("code") or 1005
        if self._order is not None:
            self.inbound.clear()
        else:
            self._end(*self.outbound.end_of(message))
        self.inbound.put(message)
        self._wakeup.notify()

    # From start to end

    async def run(self, app: App, scope: Scope) -> None:
        """Serve the socket until it has ended. Raises the application's error once the socket is closed."""
        pump = asyncio.create_task(self._pump(), name=f"pump {self.id}")
        handler: AppTask | None = None
        try:
            await self._wakeup.until(lambda: self._connect_seen or self._gone is not None)
            if self._gone is None and await self._admitted():
                receive, name = self.inbound.receive, f"app {self.id}"
                handler = AppTask(app, scope, receive, self.send, name=name, on_end=self._wakeup.notify)
                await self._wakeup.until(lambda: handler.done or self._order is not None or self._gone is not None)
                await self._shut_down(handler)
        finally:
            if handler is not None:
                handler.cancel()
            self._end(*(self._order or endings.end_by_cancellation(leaving=self._host.leaving)))
            self.outbound.stop()
            pump.cancel()
            if self.ended is CloseReason.NODE_DRAINING and self._order is None:
                await self._host.written()  # a server that stops ends the process once its sockets' tasks have ended

    async def _admitted(self) -> bool:
        decision = await self._host.admit(self)
        if isinstance(decision, Refused):
            if self._gone is None:
                await self._send_closing(decision, self._host.retry_after(self, decision))
                await self._abort_unless_closed()
            return False
        self.admission = decision
        return self._gone is None

    async def _shut_down(self, handler: AppTask) -> None:
        """Close the socket, then end the application, whichever of client, order or application ended the socket."""
        if self._order is not None:
            await self._close_with(*self._order)
        elif self._gone is None:
            await self._app_ended(handler)
        if self._gone is None:
            self.inbound.clear()
            self.inbound.put(endings.abnormal())
        await self._abort_unless_closed()
        if not await handler.end(self._host.tunables.grace_seconds):
            self._host.abandoned(self)
        elif not handler.cancelled and not self.outbound.failed and handler.error is not None:
            raise handler.error

    async def _app_ended(self, handler: AppTask) -> None:
        if self.outbound.refusal and handler.error is not None and not handler.cancelled:
            self._end(CloseReason.HANDLER_FAILED, self.outbound.refusal)
            raise handler.error  # for this the server closes the socket, as it does without the middleware
        if self.ended is not None:
            return  # the application closed the socket itself
        if handler.error is None:
            where = "" if self.accepted else " before accepting"
            self._end(CloseReason.APP_CLOSED, f"the application returned{where}")
            await self.outbound.send_within(self.outbound.forward({"type": "websocket.close"}), CLOSE_SECONDS)
        elif self.outbound.failed:
            self._end(CloseReason.CLIENT_GONE, "the connection ended while the application was sending")
        else:
            await self._close_with(CloseReason.HANDLER_FAILED, f"its handler ended with {type(handler.error).__name__}")

    async def _close_with(self, reason: CloseReason, evidence: str) -> None:
        """Send the closing frame, close, then release the slot. Abort if the client does not take the frames."""
        if self.ended is None and self._gone is None:
            self._order = (reason, evidence)  # the client's answer to our close must not count as its own close
            await self._send_closing(reason)
        self._end(reason, evidence)

    async def _send_closing(self, reason: str, retry_after: float | None = None) -> None:
        if self._accepting and not self.accepted:
            self.outbound.abort()  # the server is still sending the application's accept, and allows no second one
            return
        await close_or_abort(
            self.outbound,
            reason,
            inject=self.inject,
            accept=not self.accepted,
            subprotocols=self._subprotocols,
            retry_after=retry_after,
        )

    async def _abort_unless_closed(self) -> None:
        """Wait for the end of the transport; abort it if the client has not completed the close in time."""
        if not await self._wakeup.until(lambda: self._gone is not None, CLOSE_SECONDS):
            self.outbound.abort()

    def _end(self, reason: CloseReason, evidence: str) -> None:
        """Release the slot, whatever the application still does. Only the first reason counts."""
        if self.ended is None:
            self.ended = reason
            self._host.released(self, reason, evidence)
