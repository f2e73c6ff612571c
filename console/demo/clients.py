"""The demo's chat clients, in a process of their own: `python -m console.demo.clients`.

The process reads one line from standard input, a JSON list of `Client`s, opens them all, writes "open", and goes on
until its standard input ends.
"""

import asyncio
import json
import logging
import random
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from console.demo.people import QUESTIONS

logger = logging.getLogger("console.demo.clients")

CHAT_SECONDS = (5.0, 15.0)  # between two messages of any client: enough for the charts, with hardly any load
RELOAD_SECONDS = (40.0, 90.0)  # between two reloads of any client
OPEN_SECONDS = 30.0
ELSEWHERE = (4012, 4013)  # the close codes of a node that drains, or is full


@dataclass
class Client:
    """One tab. Without `answers` it sends nothing and never reconnects, as if its machine were off."""

    user: str
    cookie: str
    origins: list[str]  # of the nodes: the first one at first; the next if a node is down, drains or is full
    device: str
    browser: str
    answers: bool
    reloads: bool


class Tab:
    """A client, and its socket while it is connected."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.opened = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._conversation: str | None = None
        self._origin = 0
        self._comes_back = 0.0
        self._elsewhere = True

    async def live(self) -> None:
        """Open, read, and reconnect after the delay that the server names, unless it forbids that."""
        while True:
            self._comes_back, self._elsewhere = 1 + random.random(), True
            try:
                await self._open_and_read()
            except (OSError, TimeoutError, WebSocketException) as error:
                logger.info("%s: %s", self.client.user, error)
                self._origin += self._elsewhere
            self._socket = None
            if not self.client.answers or self._comes_back < 0:
                return
            await asyncio.sleep(self._comes_back)

    async def ask(self) -> None:
        """Send a message, in the latest conversation."""
        await self._send(
            "user_message",
            client_id=str(uuid.uuid4()),
            conversation=self._conversation,
            text=random.choice(QUESTIONS),
        )

    async def reload(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def _open_and_read(self) -> None:
        client = self.client
        origin = client.origins[self._origin % len(client.origins)]
        query = urlencode({"device": client.device, "attempt": time.time_ns() // 1_000_000})
        async with connect(
            f"{origin.replace('http', 'ws', 1)}/ws/chat/?{query}",
            origin=origin,  # type: ignore[arg-type]  # a str by another name
            additional_headers={"Cookie": client.cookie},
            user_agent_header=client.browser,
            compression=None,
            ping_interval=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=1,
            proxy=None,
        ) as socket:
            self._socket = socket
            async for text in socket:
                await self._read(json.loads(text))

    async def _read(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "ready":
                self.opened.set()
            case "ping" if self.client.answers:
                await self._send("pong", nonce=frame["nonce"])
            case "ack":
                self._conversation = frame["conversation"]
            case "closing":
                self._comes_back = frame["retry_after"] if frame["reconnect"] == "after" else -1
                self._elsewhere = frame["code"] in ELSEWHERE

    async def _send(self, kind: str, **fields: object) -> None:
        if self._socket is None:
            return
        try:
            await self._socket.send(json.dumps({"type": kind, **fields}))
        except ConnectionClosed:
            logger.info("%s: closed before %s", self.client.user, kind)


async def chat(tabs: list[Tab]) -> None:
    """Now and then send a message from a random tab."""
    while tabs:
        await asyncio.sleep(random.uniform(*CHAT_SECONDS))
        await random.choice(tabs).ask()


async def reload(tabs: list[Tab]) -> None:
    """Now and then reload a random tab: the same device reconnects."""
    while tabs:
        await asyncio.sleep(random.uniform(*RELOAD_SECONDS))
        await random.choice(tabs).reload()


async def run_clients(clients: list[Client], end: asyncio.StreamReader) -> None:
    tabs = [Tab(client) for client in clients]
    tasks = [asyncio.create_task(tab.live(), name=f"tab of {tab.client.user}") for tab in tabs]
    async with asyncio.timeout(OPEN_SECONDS):
        await asyncio.gather(*(tab.opened.wait() for tab in tabs))
    sys.stdout.write("open\n")
    sys.stdout.flush()
    answering = [tab for tab in tabs if tab.client.answers]
    tasks.append(asyncio.create_task(chat(answering), name="chat"))
    tasks.append(asyncio.create_task(reload([tab for tab in answering if tab.client.reloads]), name="reload"))
    for task in tasks:
        task.add_done_callback(_ended)
    await end.read()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=3)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s ended", task.get_name(), exc_info=task.exception())


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    line = await reader.readline()
    if line:
        await run_clients([Client(**fields) for fields in json.loads(line)], reader)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(main())
