"""The staff member's browser: one POST on a connection that is open already."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.support.databases import TestUser
from tests.support.servers import Server

TOKEN = "benchmark" * 3 + "token"  # 32 letters, as Django's are


@dataclass(frozen=True)
class Posted:
    at: float
    """On `time.perf_counter`, just before the request was written."""
    status: int


class Desk:
    """A connection of a member of staff to one node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = head

    @classmethod
    async def open(cls, server: Server, staff: TestUser) -> "Desk":
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            f"Host: 127.0.0.1:{server.port}\r\nOrigin: {server.url}\r\nConnection: close\r\n"
            f"Cookie: {staff.cookie}; csrftoken={TOKEN}\r\nX-CSRFToken: {TOKEN}\r\nHX-Request: true\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
        )
        return cls(reader, writer, head)

    async def post(self, path: str, **fields: str) -> Posted:
        """Sends it and reads the answer to its end; the connection is used up."""
        body = urlencode(fields)
        request = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n{body}"
        at = time.perf_counter()
        self._writer.write(request.encode())
        answer = await self._reader.read()
        self._writer.close()
        return Posted(at, int(answer.split(None, 2)[1]))
