"""The middleware that admits, and the guard around the whole stack. Both are plain ASGI and keep no state on `self`."""

import asyncio
import logging
import time
from typing import Any
from uuid import uuid4

from django.contrib.auth import HASH_SESSION_KEY

from connections.conf import Tunables, tunables
from connections.node.current import ensure_node
from connections.policy.admission import Handshake
from connections.policy.states import Refused
from connections.websocket import closing, handshake
from connections.websocket.asgi_types import App, Message, Receive, Scope, Send
from connections.websocket.clock import NodeClock
from connections.websocket.closing import CLOSE_SECONDS
from connections.websocket.manager import Manager
from connections.websocket.outbound import Outbound

logger = logging.getLogger(__name__)

GUARD = "connections.guard"


class SoftLimitMiddleware:
    """Wrap any ASGI WebSocket application, inside the project's own auth stack: it reads `scope["user"]`.

    `pool` labels the route: limits hold per user and pool. `soft_limit` and `burst` are numbers of managers; if left
    out, the settings apply. With `inject`, the manager sends frames of its own: pings, and the reason of a close. An
    anonymous user has no limit and no record, and is refused with 4401 if `login_required`. The application finds its
    manager at `scope["manager"]`. Errors of the application are raised once its socket is closed.
    """

    def __init__(
        self,
        app: App,
        *,
        pool: str = "default",
        inject: bool = False,
        login_required: bool = False,
        soft_limit: int | None = None,
        burst: int | None = None,
    ) -> None:
        self.app = app
        self.pool = pool
        self.inject = inject
        self.login_required = login_required
        self.soft_limit = soft_limit
        self.burst = burst

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        user = scope.get("user")
        if user is None or not user.is_authenticated:
            if self.login_required:
                await refuse(scope, receive, send, await _why_anonymous(scope), inject=self.inject)
            else:
                _mark_passed(scope)
                await self.app(scope, receive, send)
            return
        node = await ensure_node()
        session_key, session_hash = _session_of(scope)
        handshake = self._handshake(scope, user.pk, session_key, node.tunables)
        manager = Manager(
            node.host,
            scope,
            receive,
            send,
            handshake=handshake,
            inject=self.inject,
            server_send=_server_send(scope, send),
        )
        manager.session_hash = session_hash
        _mark_passed(scope)  # from here on the manager has what is left of the 4 s
        try:
            await manager.run(self.app, {**scope, "manager": manager})
        finally:
            node.registry.remove(manager)

    def _handshake(self, scope: Scope, user_id: Any, session_key: str, values: Tunables) -> Handshake:
        device, attempt = handshake.device_and_attempt(scope)
        return Handshake(
            id=uuid4(),
            user_id=user_id,
            pool=self.pool,
            soft_limit=self.soft_limit,
            burst=self.burst,
            device=device,
            attempt=attempt,
            session_key=session_key,
            ip=handshake.client_ip(scope, values.trusted_proxies),
            user_agent=handshake.header(scope, b"user-agent"),
            waited=_waited(scope),
        )


class Guard:
    """Wrap the whole stack, authentication included: it closes with 4013 if that fails, or takes 4 s."""

    def __init__(self, app: App, *, inject: bool = False) -> None:
        self.app = app
        self.inject = inject

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        app = self.app if handshake.is_origin_readable(scope) else _deny
        limit = asyncio.timeout(tunables().admission_seconds)
        watch = _Watch(limit, receive, send)
        try:
            async with limit:
                await app({**scope, GUARD: watch}, watch.receive, watch.send)
            return
        except TimeoutError:
            if watch.passed:
                raise
            logger.warning("handshake_timed_out", extra={"path": scope.get("path")})
        except Exception:  # whatever the stack raised before the admission, the client is told to come back
            if watch.passed:
                raise
            logger.exception("handshake_failed", extra={"path": scope.get("path")})
        await refuse(scope, watch.receive, send, Refused.TRY_AGAIN, inject=self.inject, connected=watch.connected)


async def _deny(scope: Scope, receive: Receive, send: Send) -> None:
    """Close before accepting, which servers answer with 403, as for a foreign origin."""
    await receive()
    await send({"type": "websocket.close"})


class _Watch:
    """Note whether a handshake has passed everything that may fail before admission."""

    def __init__(self, limit: asyncio.Timeout, receive: Receive, send: Send) -> None:
        self.passed = False
        self.connected = False
        self.began = time.monotonic()
        self.server_send = send
        self._limit = limit
        self._receive = receive

    def mark_passed(self) -> None:
        self.passed = True
        self._limit.reschedule(None)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.connect":
            self.connected = True
        return message

    async def send(self, message: Message) -> None:
        if not self.passed:
            self.mark_passed()  # the stack has answered: too late to refuse
        await self.server_send(message)


def _mark_passed(scope: Scope) -> None:
    watch = scope.get(GUARD)
    if watch is not None:
        watch.mark_passed()


def _waited(scope: Scope) -> float:
    """Seconds since the handshake came to the guard; 0 without one."""
    watch = scope.get(GUARD)
    return 0.0 if watch is None else time.monotonic() - watch.began


def _server_send(scope: Scope, send: Send) -> Send:
    """The server's own `send`, through which its transport can be reached."""
    watch = scope.get(GUARD)
    return send if watch is None else watch.server_send


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    refused: Refused,
    *,
    inject: bool,
    connected: bool = False,
) -> None:
    """Refuse so that a page understands it: accept, `closing`, close; then wait for the end of the connection."""
    outbound = Outbound(send, NodeClock(), _server_send(scope, send))

    async def tell() -> None:
        if not connected:
            await receive()
        await closing.send_closing(
            outbound.forward, refused, inject=inject, accept=True, subprotocols=scope.get("subprotocols") or ()
        )
        await closing.until_disconnect(receive)

    if not await outbound.send_within(tell(), CLOSE_SECONDS):
        outbound.abort()


async def _why_anonymous(scope: Scope) -> Refused:
    """Why there is no user: Django gives none for a disabled account, so the session is read for its owner."""
    from channels.db import database_sync_to_async

    session: Any = scope.get("session")
    user_id = session.get("_auth_user_id") if session is not None else None
    if user_id is None:
        return Refused.LOGIN_REQUIRED
    disabled = await database_sync_to_async(_is_disabled)(user_id)
    return Refused.ACCOUNT_DISABLED if disabled else Refused.LOGIN_REQUIRED


def _is_disabled(user_id: str) -> bool:
    from connections.models.routing import users

    user = users().filter(pk=user_id).first()
    return user is not None and not user.is_active


def _session_of(scope: Any) -> tuple[str, str]:
    """(session key, session auth hash), each empty where the project has no sessions."""
    session = scope.get("session")
    if session is None:
        return "", ""
    key = getattr(session, "session_key", None) or ""
    # Only what authentication has loaded already: to load it here would be a query on the event loop.
    loaded = getattr(session, "_session_cache", None) or {}
    return str(key), str(loaded.get(HASH_SESSION_KEY, "") or "")
