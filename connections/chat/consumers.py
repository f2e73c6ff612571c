"""The consumer on `/ws/chat/`: it reads and answers frames. Work that must outlive the socket runs in the turn runner.

It does not subscribe to the channel layer: the hub delivers, so a failing bus closes no socket.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from django.db import Error as DatabaseError

from connections.chat import frames, limits, messages, sessions
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
from connections.websocket.asgi_types import Message
from connections.websocket.frames import notice
from connections.websocket.manager import Manager

logger = logging.getLogger(__name__)

NEAR_LIMIT = 0.8  # of the soft limit: from this share on, a new socket gets a notice


class ChatConsumer(AsyncConsumer):
    """Checks each frame when it comes, and queues it. A task of its own, the worker, handles the frames in order."""

    channel_layer_alias = None  # type: ignore[assignment]  # so that Channels makes no channel in a layer

    manager: Manager
    subscriber: Subscriber | None = None

    def __init__(self) -> None:
        self.rate = FrameRate(limits.FRAMES_PER_SECOND)
        self.queue: asyncio.Queue[Message | None] = asyncio.Queue(limits.FRAMES_WAITING)
        self.worker: asyncio.Task[None] | None = None
        self.ignoring = False
        self.chat = current_chat()
        self.gone = False  # the client has left: its queued frames are still handled, but not answered

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
        """Dispatch as Channels does, but without its call into the shared database thread for each frame."""
        await getattr(self, get_handler_name(message))(message)

    # Events of the server

    async def websocket_connect(self, message: Message) -> None:
        await self.send({"type": "websocket.accept"})
        await self.send_ready()
        self.worker = asyncio.get_running_loop().create_task(self.handle_queue(), name=f"chat-worker {self.manager.id}")

    async def websocket_receive(self, message: Message) -> None:
        if self.ignoring:
            return
        text, data = message.get("text"), message.get("bytes")
        size = len(data or b"") if text is None else _utf8_size(text)
        if size > limits.FRAME_BYTES:
            self.close_for(CloseReason.TOO_BIG, f"a frame of {size} bytes; {limits.FRAME_BYTES} are allowed")
        elif not self.rate.allows(time.monotonic()):
            self.close_for(CloseReason.PROTOCOL_ABUSE, f"more than {limits.FRAMES_PER_SECOND} frames in a second")
        else:
            await self._enqueue(message)

    def close_for(self, reason: CloseReason, evidence: str) -> None:
        """Close the socket, and ignore further frames."""
        self.ignoring = True
        self.manager.order_close(reason, evidence)

    async def websocket_disconnect(self, message: Message) -> None:
        """Wait until the queued frames are handled. The manager grants a grace period for it."""
        self.gone = True
        if self.worker is not None:
            await self._enqueue(None)
            await asyncio.wait({self.worker})
        raise StopConsumer

    async def _enqueue(self, message: Message | None) -> None:
        """Queue a frame, or None to end the worker. If the worker failed, raise its error, which ends the socket."""
        if self.worker is not None and self.worker.done():
            self.worker.result()
        await self.queue.put(message)

    # Answers

    @property
    def username(self) -> str:
        user: Any = self.scope["user"]
        return str(user.get_username())

    async def send_text(self, text: str) -> None:
        if not self.gone:
            await self.send({"type": "websocket.send", "text": text})

    async def send_ready(self) -> None:
        admission, node = self.manager.admission, current_node()
        assert admission is not None, "the middleware calls the application after the admission"
        assert admission.at is not None, "the admission has its time"
        # Attached directly before `ready`, so that no message is sent before it and none after it is missed.
        self.subscriber = self.chat.hub.attach(self.manager, admission.at)
        await self.send_text(
            frames.frame(
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
            await self.send_text(notice("over_limit", admission.live, admission.soft_limit))
        elif admission.live >= NEAR_LIMIT * admission.soft_limit:
            await self.send_text(notice("near_limit", admission.live, admission.soft_limit))

    # Frames of the client

    async def handle_queue(self) -> None:
        while (message := await self.queue.get()) is not None:
            await self.handle(message)

    async def handle(self, message: Message) -> None:
        text, error_fields = message.get("text"), dict[str, Any]()
        try:
            if text is None:
                raise BadFrame(ErrorCode.BINARY, "Frames are text. This one was binary.")
            frame = frames.parse(text)
            error_fields = frames.error_fields(frame)
            await self.act(frame)
        except BadFrame as error:
            await self.send_text(frames.error(error.code, error.message, error.client_id))
        except messages.NotFound as error:
            words = str(error) or "You have no such conversation."
            await self.send_text(frames.error(ErrorCode.NOT_FOUND, words, **error_fields))
        except messages.TooManyConversations:
            words = f"You have {limits.CONVERSATIONS_PER_USER} conversations, which is as many as there can be."
            await self.send_text(frames.error(ErrorCode.TOO_MANY_CONVERSATIONS, words, **error_fields))
        except (DatabaseError, TimeoutError) as error:
            logger.warning("chat_frame_not_handled", extra=self.context() | {"error": repr(error)})
            await self.send_text(
                frames.error(ErrorCode.TRY_AGAIN, "That took too long. Please try again.", **error_fields)
            )
        except OSError as error:  # servers raise it for a send to a client that has left
            logger.info("chat_client_left", extra=self.context() | {"error": repr(error)})
            self.gone = True
        except Exception:  # one frame that fails must not end the socket
            logger.exception("chat_frame_failed", extra=self.context())
            words = "Something went wrong on our side, and this was not done."
            await self.send_text(frames.error(ErrorCode.INTERNAL, words, **error_fields))

    async def act(self, frame: frames.Frame) -> None:
        match frame:
            case frames.UserMessage():
                await self.user_message(frame)
            case frames.Resume() if not self.gone:
                await self.resume(frame)
            case frames.Earlier() if not self.gone:
                await self.earlier(frame)
            case frames.CloseSessions():
                await self.close_sessions(frame)
            case frames.CancelTurn():
                await self.cancel_turn(frame)
            case frames.ListSessions() if not self.gone:
                await self.list_sessions()
            case frames.ListConversations() if not self.gone:
                found = await in_database(messages.conversations, self.manager.user_id, frame.before)
                await self.send_text(frames.frame("conversations", before=frame.before, **found))
            case _:
                pass  # a stray pong needs no answer, nor does a client that has left

    async def user_message(self, sent: frames.UserMessage) -> None:
        stored = await in_database(messages.add_user_message, self.manager.user_id, sent)
        message = stored.message
        ack = frames.frame("ack", client_id=sent.sent_client_id, conversation=message.conversation, seq=message.seq)
        acknowledging = asyncio.ensure_future(self.send_text(ack))
        await asyncio.sleep(0)  # the ack is queued before any later frame; do not wait for a slow client
        if stored.fresh:
            self.chat.hub.message(self.manager.user_id, message)
        if stored.run is not None:
            self.chat.runner.asked(stored.run, self.manager)
        await acknowledging

    async def resume(self, wanted: frames.Resume) -> None:
        assert self.subscriber is not None, "frames are handled after `ready`"
        conversation = wanted.conversation
        last = await self.subscriber.resume(conversation, wanted.after_seq, self.send_text)
        await self.send_text(frames.frame("resumed", conversation=conversation, last_seq=last))
        self.chat.hub.show_turn(self.subscriber, conversation)

    async def earlier(self, wanted: frames.Earlier) -> None:
        conversation = wanted.conversation
        title, found = await in_database(
            messages.messages_before, self.manager.user_id, conversation, wanted.before_seq, limits.PAGE_OF_MESSAGES
        )
        for message in found:
            await self.send_text(message.as_frame())
        from_seq = found[0].seq if found else 1
        await self.send_text(frames.frame("earlier", conversation=conversation, from_seq=from_seq, title=title))

    async def cancel_turn(self, wanted: frames.CancelTurn) -> None:
        ended = await in_database(turn_rows.cancel, self.manager.user_id, wanted.run)
        if ended is not None:
            self.chat.runner.send_end(ended)
        self.chat.runner.cancelled()

    async def list_sessions(self) -> None:
        found = await in_database(sessions.open_sessions, self.manager.user_id, self.manager.id)
        await self.send_text(frames.frame("sessions", managers=found))

    async def close_sessions(self, wanted: frames.CloseSessions) -> None:
        ids = None if wanted.managers is None else list(wanted.managers)
        with suppress(Obsolete):  # the session that asked has ended; the audit trail records it
            await in_database(sessions.close, self.manager.user_id, ids, self.manager.id)
        await self.list_sessions()

    def context(self) -> dict[str, Any]:
        return {"manager": str(self.manager.id), "user": str(self.manager.user_id)}


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
