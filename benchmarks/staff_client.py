"""The HTTP client of a staff member: it sends one POST, on a connection opened beforehand."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.support.databases import TestUser
from tests.support.servers import Server

CSRF_TOKEN = "benchmark" * 3 + "token"  # 32 characters, the length of Django's CSRF secret


@dataclass(frozen=True)
class PostResult:
    sent_at: float
    """`time.perf_counter()` just before the request was written."""
    status: int


class StaffClient:
    """A staff member's HTTP connection to one node. It sends one POST."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = head

    @classmethod
    async def open(cls, server: Server, staff: TestUser) -> "StaffClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = (
            f"Host: 127.0.0.1:{server.port}\r\nOrigin: {server.url}\r\nConnection: close\r\n"
            f"Cookie: {staff.cookie}; csrftoken={CSRF_TOKEN}\r\nX-CSRFToken: {CSRF_TOKEN}\r\nHX-Request: true\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
        )
        return cls(reader, writer, head)

    async def post(self, path: str, **fields: str) -> PostResult:
        """Send the form fields and read the whole response. The server closes the connection afterwards."""
        body = urlencode(fields)
        request = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n{body}"
        sent_at = time.perf_counter()
        self._writer.write(request.encode())
        response = await self._reader.read()
        self._writer.close()
        return PostResult(sent_at, int(response.split(None, 2)[1]))
