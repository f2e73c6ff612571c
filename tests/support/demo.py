"""Helpers for tests of `manage.py demo` and `manage.py cluster`: their processes, log-ins, and their users' records."""

import http.cookiejar
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from typing import Any

from tests.support.databases import Database, TestUser
from tests.support.servers import Server

PASSWORD = "demo"
QUICK_SETTINGS: dict[str, Any] = {"beat_seconds": 0.5, "lease_seconds": 3, "probe_seconds": 1}


def process_tree(pid: int) -> set[int]:
    """Return the ids of the process and of all its descendants."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie, which has ended and has not been waited for, does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def all_gone(pids: set[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def log_in(server: Server, name: str) -> TestUser:
    """Log in through the log-in page, and return the user with the new session."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
    address = f"{server.url}/accounts/login/?next=/healthz"
    page = opener.open(address, timeout=10).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None
    form = {"csrfmiddlewaretoken": token[1], "username": name, "password": PASSWORD, "next": "/healthz"}
    answer = opener.open(address, urllib.parse.urlencode(form).encode(), timeout=10)
    assert answer.url.endswith("/healthz"), answer.read().decode()
    cookies = {cookie.name: cookie.value for cookie in jar}
    return TestUser(id=0, name=name, session=str(cookies["sessionid"]))


def count_held(database: Database, name: str) -> int:
    """How many records of the user are not closed."""
    statement = (
        "SELECT count(*) FROM connections_managerrecord r JOIN auth_user u ON u.id = r.user_id"
        " WHERE u.username = ? AND r.state != 'closed'"
    )
    count: int = database.query(statement, [name])[0][0]
    return count
