"""A relay in front of PostgreSQL that treats the start-up parameter `options` as poolers do: dropped without a word, or
refused. What follows the start-up passes unchanged.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
REFUSAL = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"  # PgBouncer's


@contextlib.contextmanager
def pooler(url: str, *, refuses: bool) -> Iterator[str]:
    """Yield the address of the same database through a pooler, from an address with a Unix socket's folder."""
    parts = urlsplit(url)
    folder = Path(parse_qs(parts.query)["host"][0])
    server = next(path for path in folder.iterdir() if path.name.startswith(".s.PGSQL") and path.suffix != ".lock")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, str(server), refuses), daemon=True).start()
        yield f"{parts.scheme}://postgres@127.0.0.1:{listener.getsockname()[1]}{parts.path}"
        listener.shutdown(socket.SHUT_RDWR)  # ends `accept`


def _accept(listener: socket.socket, server: str, refuses: bool) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, server, refuses), daemon=True).start()


def _serve(client: socket.socket, server: str, refuses: bool) -> None:
    with contextlib.suppress(OSError, struct.error), client, socket.socket(socket.AF_UNIX) as upstream:
        parameters = _startup(client)
        if refuses and b"options" in parameters:
            client.sendall(b"E" + struct.pack("!i", 4 + len(REFUSAL)) + REFUSAL)
            return
        parameters.pop(b"options", None)
        body = struct.pack("!i", 3 << 16) + b"".join(k + b"\0" + v + b"\0" for k, v in parameters.items()) + b"\0"
        upstream.connect(server)
        upstream.sendall(struct.pack("!i", 4 + len(body)) + body)
        threading.Thread(target=_pass_on, args=(upstream, client), daemon=True).start()
        _pass_on(client, upstream)


def _startup(client: socket.socket) -> dict[bytes, bytes]:
    """The parameters of the start-up message, after the client's questions for encryption."""
    while True:
        length, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
        if code not in (SSL_REQUEST, GSS_REQUEST):
            words = client.recv(length - 8, socket.MSG_WAITALL).split(b"\0")
            return {key: value for key, value in zip(words[::2], words[1::2], strict=False) if key}
        client.sendall(b"N")


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
