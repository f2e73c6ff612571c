"""A real HTTP server on loopback that speaks OpenAI's streamed chat completions, and gives the replies of the test."""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 30.0  # how long a server that sends nothing more waits for the client to leave


@dataclass(frozen=True)
class Piece:
    """One chunk of a tool call. The first chunk has the call's name; later chunks have parts of its arguments."""

    arguments: str = ""
    index: int = 0
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Finish:
    reason: str = "stop"


@dataclass(frozen=True)
class Raw:
    """A line that is sent unchanged."""

    line: str


class Cut:
    """The server cuts the connection."""


class Silence:
    """The server sends nothing more, and waits for the client to leave."""


Part = str | Piece | Finish | Raw | Cut | Silence


@dataclass(frozen=True)
class Refusal:
    status: int
    retry_after: str | None = None


Reply = Refusal | Sequence[Part]


def says(*pieces: str) -> Reply:
    return (*pieces, Finish())


def calls(*tools: tuple[str, str], say: str = "") -> Reply:
    """A reply that calls tools, (name, arguments) each, in chunks that alternate between the calls."""
    named = [Piece(index=n, id=f"call_{n}", name=name) for n, (name, _) in enumerate(tools)]
    halves = [(n, text[: len(text) // 2], text[len(text) // 2 :]) for n, (_, text) in enumerate(tools)]
    first = [Piece(begin, index=n) for n, begin, _ in halves]
    second = [Piece(end, index=n) for n, _, end in halves]
    return (*([say] if say else []), *named, *first, *second, Finish("tool_calls"))


class Model:
    """The server. It gives `replies` in their order and repeats the last one. `requests` are the bodies that it got,
    and `keys` their Authorization headers.
    """

    def __init__(self, *replies: Reply) -> None:
        self.replies = deque(replies)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.left = threading.Event()  # a client has left during a `Silence`
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def next(self) -> Reply:
        return self.replies.popleft() if len(self.replies) > 1 else self.replies[0]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@contextmanager
def model(*replies: Reply) -> Iterator[Model]:
    served = Model(*replies)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def problem(asked: dict[str, Any]) -> str:
    """Why a real server would refuse this request; empty if it would not."""
    messages = asked.get("messages")
    if not isinstance(asked.get("model"), str) or not isinstance(messages, list) or not messages:
        return "model and messages are required"
    if asked.get("stream") is not True:
        return "this server only streams"
    if any(tool["type"] != "function" or not tool["function"]["name"] for tool in asked.get("tools", ())):
        return "a tool is a function with a name"
    called: set[str] = set()
    for message in messages:
        role = message.get("role")
        if called and role != "tool":
            return "tool calls without an answer"
        if role == "tool":
            if message.get("tool_call_id") not in called:
                return "an answer to no tool call"
            called.discard(message["tool_call_id"])
        elif role == "assistant":
            for call in message.get("tool_calls", ()):
                json.loads(call["function"]["arguments"])  # the prompt templates of real models parse them too
                called.add(call["id"])
        elif role not in {"system", "user"}:
            return f"no such role: {role}"
        if not isinstance(message.get("content"), str):
            return "content is text"
    return "tool calls without an answer" if called else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Model

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.served.requests.append(asked)
        self.served.keys.append(self.headers.get("Authorization", ""))
        wrong = "no such path" if self.path != "/v1/chat/completions" else problem(asked)
        reply = Refusal(400) if wrong else self.served.next()
        if isinstance(reply, Refusal):
            self.refuse(reply, wrong or "as the test says")
        else:
            self.stream(reply)

    def refuse(self, refusal: Refusal, why: str) -> None:
        body = json.dumps({"error": {"message": why, "type": "test", "code": None}}).encode()
        self.send_response(refusal.status)
        if refusal.retry_after is not None:
            self.send_header("Retry-After", refusal.retry_after)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, parts: Sequence[Part]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            if isinstance(part, Cut):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(part, Silence):
                self.wait_for_the_client_to_leave()
                return
            self.say(part)
        self.line('data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}')
        self.line("data: [DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def say(self, part: str | Piece | Finish | Raw) -> None:
        match part:
            case Raw():
                self.line(part.line)
            case str():
                self.chunk({"content": part})
            case Piece():
                function = {"name": part.name, "arguments": part.arguments}
                self.chunk(
                    {"tool_calls": [{"index": part.index, "id": part.id, "type": "function", "function": function}]}
                )
            case Finish():
                self.chunk({}, part.reason)

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        self.line(f"data: {json.dumps(whole)}")

    def line(self, text: str) -> None:
        data = f"{text}\n\n".encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def wait_for_the_client_to_leave(self) -> None:
        self.close_connection = True
        self.connection.settimeout(WAIT_SECONDS)
        if self.connection.recv(1) == b"":
            self.served.left.set()

    def log_message(self, *arguments: Any) -> None:
        pass  # tests look at `requests` instead of a log
