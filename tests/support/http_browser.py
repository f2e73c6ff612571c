"""A browser without a screen: log in, log out, read pages and send forms over HTTP, with any session engine."""

import contextlib
import http.client
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from tests.support.databases import TestUser
from tests.support.seed import PASSWORD
from tests.support.servers import Server


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    location: str


class HttpBrowser:
    """The cookies of one browser on one server. It follows no redirects."""

    def __init__(self, server: Server, user: TestUser | None = None) -> None:
        """With `user`, the browser has that user's session from the start."""
        self._server = server
        self._cookies: dict[str, str] = {} if user is None else {"sessionid": user.session}

    def log_in(self, user: TestUser) -> TestUser:
        """Log in with the user's password, and return the user with the new session."""
        self.get("/accounts/login/")
        answer = self.post("/accounts/login/", username=user.name, password=PASSWORD)
        assert (answer.status, "sessionid" in self._cookies) == (302, True), answer.status
        return TestUser(user.id, user.name, self._cookies["sessionid"])

    def log_out(self) -> None:
        answer = self.post("/accounts/logout/")
        assert (answer.status, "sessionid" in self._cookies) == (302, False), answer.status

    def get(self, path: str) -> Answer:
        return self._ask("GET", path)

    def post(self, path: str, **form: str) -> Answer:
        """Send a form. The browser needs a CSRF cookie, so a page with a form must have been read before."""
        return self._ask("POST", path, **form)

    def _ask(self, method: str, path: str, **form: str) -> Answer:
        body = urlencode(form | {"csrfmiddlewaretoken": self._cookies.get("csrftoken", "")})
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body if method == "POST" else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        for line in answer.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value
                if not morsel.value:
                    del self._cookies[name]
        return Answer(answer.status, text, answer.headers.get("Location", ""))
