"""The consumer on `/ws/chat/`: it reads and answers frames. Work that must outlive the socket runs in the turn runner.

It has no subscription of the channel layer: the hub delivers, so a failing bus closes no socket.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from django.db import Error as DatabaseError

from connections.chat import frames as wire
from connections.chat import limits, messages, sessions
from connections.chat.delivery.subscriber import Subscriber
from connections.chat.executors import in_database
from connections.chat.frames import BadFrame
from connections.chat.rate_limit import FrameRate
from connections.chat.states import ErrorCode
from connections.chat.turns import rows as turn_rows
from connections.chat.turns.service import current_chat
from connections.conf import tunables
from connections.node.current import current_node
from connections.policy.states import CloseReason
from connections.recovery.actions import Obsolete
from connections.websocket import frames
from connections.websocket.asgi_types import Message
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

NEAR = 0.8  # of the soft limit: from here on the user gets a notice


class ChatConsumer(AsyncConsumer):
    """Frames are counted as they come, and handled one after the other by a task beside the consumer."""

    channel_layer_alias = None  # type: ignore[assignment]  # Channels then asks no layer for a channel

    manager: Manager
    subscriber: Subscriber | None = None

    def __init__(self) -> None:
        self.rate = FrameRate(limits.FRAMES_PER_SECOND)
        self.waiting: asyncio.Queue[Message | None] = asyncio.Queue(limits.FRAMES_WAITING)
        self.worker: asyncio.Task[None] | None = None
        self.cut_off = False
        self.chat = current_chat()
        self.gone = False  # the client has left: its frames are still handled, and not answered

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.manager = scope["manager"]
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.subscriber is not None:
                self.chat.hub.detach(self.subscriber)
            self.chat.runner.forget(self.manager)
            if self.worker is not None:
                self.worker.cancel()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Dispatch as Channels does, without a visit to the shared database thread for every frame."""
        await getattr(self, get_handler_name(message))(message)

    # Events of the server

    async def websocket_connect(self, message: Message) -> None:
        await self.send({"type": "websocket.accept"})
        await self.greet()
        self.worker = asyncio.get_running_loop().create_task(self.work(), name=f"chat-worker {self.manager.id}")

    async def websocket_receive(self, message: Message) -> None:
        if self.cut_off:
            return
        text, data = message.get("text"), message.get("bytes")
        size = len(data or b"") if text is None else _utf8_size(text)
        if size > limits.FRAME_BYTES:
            self.cut(CloseReason.TOO_BIG, f"a frame of {size} bytes; {limits.FRAME_BYTES} are allowed")
        elif not self.rate.allows(time.monotonic()):
            self.cut(CloseReason.PROTOCOL_ABUSE, f"more than {limits.FRAMES_PER_SECOND} frames in a second")
        else:
            await self._wait_in_line(message)

    def cut(self, reason: CloseReason, evidence: str) -> None:
        """Close the socket, and ignore further frames of this client."""
        self.cut_off = True
        self.manager.order_close(reason, evidence)

    async def websocket_disconnect(self, message: Message) -> None:
        """Store what was sent before the end: the manager grants a grace period for it."""
        self.gone = True
        if self.worker is not None:
            await self._wait_in_line(None)
            await asyncio.wait({self.worker})
        raise StopConsumer

    async def _wait_in_line(self, message: Message | None) -> None:
        """Queue a frame. If the worker has died, raise its error, which ends the socket."""
        if self.worker is not None and self.worker.done():
            self.worker.result()
        await self.waiting.put(message)

    # Answers

    @property
    def username(self) -> str:
        user: Any = self.scope["user"]
        return str(user.get_username())

    async def say(self, text: str) -> None:
        if not self.gone:
            await self.send({"type": "websocket.send", "text": text})

    async def greet(self) -> None:
        admission, node = self.manager.admission, current_node()
        assert admission is not None, "the middleware admits before the application hears of the socket"
        assert admission.at is not None, "whoever admits notes when"
        # Directly before `ready`: no message is sent before it, and none is missed after it.
        self.subscriber = self.chat.hub.attach(self.manager, admission.at)
        await self.say(
            wire.frame(
                "ready",
                manager=self.manager.id,
                user=self.username,
                soft_limit=admission.soft_limit,
                live=admission.live,
                node=node.name if node is not None else "",
                heartbeat_seconds=tunables().heartbeat_seconds,
            )
        )
        if admission.live > admission.soft_limit:
            await self.say(frames.notice("over_limit", admission.live, admission.soft_limit))
        elif admission.live >= NEAR * admission.soft_limit:
            await self.say(frames.notice("near_limit", admission.live, admission.soft_limit))

    # Frames of the client

    async def work(self) -> None:
        while (message := await self.waiting.get()) is not None:
            await self.handle(message)

    async def handle(self, message: Message) -> None:
        text, about = message.get("text"), dict[str, Any]()
        try:
            if text is None:
                raise BadFrame(ErrorCode.BINARY, "Frames are text. This one was binary.")
            frame = wire.parse(text)
            about = wire.about(frame)
            await self.act(frame)
        except BadFrame as error:
            await self.say(wire.error(error.code, error.message, error.client_id))
        except messages.NotFound as error:
            words = str(error) or "You have no such conversation."
            await self.say(wire.error(ErrorCode.NOT_FOUND, words, **about))
        except messages.TooManyConversations:
            words = f"You have {limits.CONVERSATIONS_PER_USER} conversations, which is as many as there can be."
            await self.say(wire.error(ErrorCode.TOO_MANY_CONVERSATIONS, words, **about))
        except (DatabaseError, TimeoutError) as error:
            logger.warning("chat_frame_not_handled", extra=self.context() | {"error": repr(error)})
            await self.say(wire.error(ErrorCode.TRY_AGAIN, "That took too long. Please try again.", **about))
        except OSError as error:  # servers raise it for a send to a client that has left
            logger.info("chat_client_left", extra=self.context() | {"error": repr(error)})
            self.gone = True
        except Exception:
            logger.exception("chat_frame_failed", extra=self.context())
            words = "Something went wrong on our side, and this was not done."
            await self.say(wire.error(ErrorCode.INTERNAL, words, **about))

    async def act(self, frame: wire.Frame) -> None:
        match frame:
            case wire.UserMessage():
                await self.user_message(frame)
            case wire.Resume() if not self.gone:
                await self.resume(frame)
            case wire.Earlier() if not self.gone:
                await self.earlier(frame)
            case wire.CloseSessions():
                await self.close_sessions(frame)
            case wire.CancelTurn():
                await self.cancel_turn(frame)
            case wire.ListSessions() if not self.gone:
                await self.list_sessions()
            case wire.ListConversations() if not self.gone:
                found = await in_database(messages.conversations, self.manager.user_id, frame.before)
                await self.say(wire.frame("conversations", before=frame.before, **found))
            case _:
                pass  # a stray pong needs no answer, and a client that has left needs no lists

    async def user_message(self, sent: wire.UserMessage) -> None:
        stored = await in_database(messages.add_user_message, self.manager.user_id, sent)
        message = stored.message
        ack = wire.frame("ack", client_id=sent.sent_client_id, conversation=message.conversation, seq=message.seq)
        acknowledging = asyncio.ensure_future(self.say(ack))
        await asyncio.sleep(0)  # the ack has its place in the order; do not wait for a slow client
        if stored.fresh:
            self.chat.hub.message(self.manager.user_id, message)
        if stored.run is not None:
            self.chat.runner.asked(stored.run, self.manager)
        await acknowledging

    async def resume(self, wanted: wire.Resume) -> None:
        assert self.subscriber is not None, "frames are handled after the greeting"
        conversation = wanted.conversation
        last = await self.subscriber.resume(conversation, wanted.after_seq, self.say)
        await self.say(wire.frame("resumed", conversation=conversation, last_seq=last))
        self.chat.hub.show_turn(self.subscriber, conversation)

    async def earlier(self, wanted: wire.Earlier) -> None:
        conversation = wanted.conversation
        title, found = await in_database(
            messages.messages_before, self.manager.user_id, conversation, wanted.before_seq, limits.PAGE_OF_MESSAGES
        )
        for message in found:
            await self.say(message.as_frame())
        from_seq = found[0].seq if found else 1
        await self.say(wire.frame("earlier", conversation=conversation, from_seq=from_seq, title=title))

    async def cancel_turn(self, wanted: wire.CancelTurn) -> None:
        ended = await in_database(turn_rows.cancel, self.manager.user_id, wanted.run)
        if ended is not None:
            self.chat.runner.tell_end(ended)
        self.chat.runner.cancelled()

    async def list_sessions(self) -> None:
        found = await in_database(sessions.open_sessions, self.manager.user_id, self.manager.id)
        await self.say(wire.frame("sessions", managers=found))

    async def close_sessions(self, wanted: wire.CloseSessions) -> None:
        ids = None if wanted.managers is None else list(wanted.managers)
        with suppress(Obsolete):  # the session that asked has ended; the audit trail has it
            await in_database(sessions.close, self.manager.user_id, ids, self.manager.id)
        await self.list_sessions()

    def context(self) -> dict[str, Any]:
        return {"manager": str(self.manager.id), "user": str(self.manager.user_id)}


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
