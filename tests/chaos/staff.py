"""A member of staff, who posts the forms of any node's console over HTTP, as a browser without JavaScript does."""

import asyncio
import contextlib
import http.client
import time
from urllib.parse import urlencode

from tests.chaos.cluster import Cluster
from tests.chaos.history import Click
from tests.support.databases import TestUser

CLICK_SECONDS = 12.0
CSRF = "a" * 32  # Django only compares cookie and form, so any token will do


class Staff:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lead = cluster.database.user("lead")

    async def click(self, action: str, user: TestUser, node: str) -> None:
        """Post a `recover`, `reset` or `check`, and record it in the history with its answer, if one comes."""
        clicks = self._cluster.history.clicks
        token = f"chaos {self._cluster.history.seed} click {len(clicks)}"
        click = Click(time.time(), action, user.name, token, node)
        clicks.append(click)
        form = {"reason": token, "confirm": user.name, "csrfmiddlewaretoken": CSRF}
        path = f"/console/users/{user.id}/{action}/"
        with contextlib.suppress(OSError, http.client.HTTPException):
            click.status = await asyncio.to_thread(self._post, node, path, urlencode(form))
        click.answered = time.time()

    def _post(self, node: str, path: str, body: str) -> int:
        port = self._cluster.nodes[node].server.port
        headers = {
            "Cookie": f"{self._lead.cookie}; csrftoken={CSRF}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CLICK_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
