"""Helpers for tests of the chat page: locators for its parts, and a proxy for the WebSocket between page and server."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

from playwright.sync_api import Error, Locator, Page, WebSocketRoute, expect

from tests.support.databases import Database, TestUser

Frame = dict[str, Any]


def wait_until_live(page: Page) -> Page:
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    return page


def reload(page: Page) -> None:
    page.reload()
    wait_until_live(page)


def message_field(page: Page) -> Locator:
    return page.get_by_label("Message", exact=True)


def send_message(page: Page, words: str) -> None:
    message_field(page).fill(words)
    if page.evaluate("matchMedia('(pointer: coarse)').matches"):
        page.get_by_role("button", name="Send").click()
    else:
        page.keyboard.press("Enter")


def messages(page: Page) -> Locator:
    return page.locator("#log > .message")


def texts(page: Page) -> list[str]:
    """Return the texts of the shown messages, without sender and time."""
    return messages(page).locator(".text").all_inner_texts()


def pending(page: Page) -> Locator:
    return page.locator("#pending > li")


def conversation_links(page: Page) -> Locator:
    return page.locator("#conversations a")


def open_tab(page: Page, path: str = "/chat/") -> Page:
    """Open another tab in the same browser, and wait until its connection is live."""
    page = page.context.new_page()
    page.goto(path)
    return wait_until_live(page)


class WebSocketProxy:
    """Stands between a page and its server, from the page's next connect on.

    While `down` is set, the proxy refuses each connect. It keeps the server's frames for which `held` returns True
    until `release`. `answers` has a function for each frame type that the proxy answers instead of the server; where
    the function returns None, the proxy passes the page's frame on to the server.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.down = False
        self.held: Callable[[Frame], bool] = lambda frame: False
        self.answers: dict[str, Callable[[Frame], Frame | None]] = {}
        self.sent: list[Frame] = []  # the page's frames
        self.connects = 0
        self._waiting: list[str] = []
        self._socket: WebSocketRoute | None = None
        self._server: WebSocketRoute | None = None
        page.route_web_socket("**/ws/chat/**", self._connect)

    def _connect(self, socket: WebSocketRoute) -> None:
        self.connects += 1
        if self.down:
            socket.close(code=4013)
            return
        server = socket.connect_to_server()
        self._socket, self._server = socket, server
        socket.on_message(lambda text: self._from_page(socket, server, text))
        server.on_message(lambda text: self._from_server(socket, text))

    def _from_page(self, socket: WebSocketRoute, server: WebSocketRoute, text: Any) -> None:
        if server is not self._server:
            return  # `cut` has ended this connection meanwhile
        frame = json.loads(text)
        self.sent.append(frame)
        answer = self.answers.get(frame["type"])
        said = answer(frame) if answer is not None else None
        if said is None:
            server.send(text)
        else:
            socket.send(json.dumps(said))

    def _from_server(self, socket: WebSocketRoute, text: Any) -> None:
        if socket is not self._socket:
            return
        if self.held(json.loads(text)):
            self._waiting.append(text)
        else:
            socket.send(text)

    def tell(self, kind: str, /, **fields: Any) -> None:
        """Send the page a frame as if its server had sent it."""
        assert self._socket is not None, "the page has not connected"
        self._socket.send(json.dumps({"type": kind, **fields}))

    def release(self) -> None:
        """Pass on all frames that were held, and hold no more."""
        assert self._socket is not None, "the page has not connected"
        self.held = lambda frame: False
        for text in self._waiting:
            self._socket.send(text)
        self._waiting.clear()

    def cut(self) -> None:
        """Cut the connection. The page connects again by itself, and succeeds unless `down` is set."""
        ends = (self._socket, self._server)
        self._socket = self._server = None
        self._waiting.clear()
        for end in ends:
            if end is not None:
                with suppress(Error):  # this end may be closed already
                    end.close(code=4013)

    def go_down(self) -> None:
        """Cut the connection, refuse new ones, and wait until the page shows that it will try again."""
        self.down = True
        self.cut()
        expect(self.page.locator("#connection")).to_contain_text("reconnecting in")

    def come_back(self) -> None:
        """Let the page connect again, now and not only at its next attempt, and wait until the connection is live."""
        self.down = False
        self.page.wait_for_function(BACK_AT_ONCE, polling=50)


# The event has an effect only while the page waits for its next attempt, so it is sent until the page is live.
BACK_AT_ONCE = """() => {
  dispatchEvent(new Event("online"));
  return document.getElementById("connection").dataset.state === "live";
}"""


def change_module(page: Page, name: str, old: str, new: str) -> None:
    """Replace `old` by `new` in the JavaScript module `name` when the page loads it."""

    def changed(route: Any) -> None:
        response = route.fetch()
        text = response.text()
        assert old in text, f"{name} has no {old}"
        route.fulfill(response=response, body=text.replace(old, new))

    page.route(f"**/chat/{name}", changed)


def add_conversations(database: Database, user: TestUser, *lengths: int) -> list[str]:
    """Add one conversation for each length, with that many messages, oldest conversation first; return their ids.

    A message's text is "<number of the conversation>.<sequence number>", so "1.1" is the oldest message.
    """
    made: list[str] = []
    for number, length in enumerate(lengths, 1):
        key = uuid4()
        at = f"2026-01-01 {number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"
        database.query(
            "INSERT INTO chat_conversation (id, user_id, title, last_seq, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [key.hex, user.id, f"Conversation {number}", length, at, at],
        )
        database.query(
            "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)"
            " INSERT INTO chat_message (conversation_id, seq, role, text, sender_id, client_id, steps, created_at)"
            " SELECT ?, seq, CASE WHEN seq % 2 THEN 'user' ELSE 'assistant' END, ? || '.' || seq,"
            " CASE WHEN seq % 2 THEN ? END, CASE WHEN seq % 2 THEN lower(hex(randomblob(16))) END, '[]', ? FROM n",
            [length, key.hex, str(number), user.id, at],
        )
        made.append(str(UUID(key.hex)))
    return made
