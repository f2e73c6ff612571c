"""The fixtures of the browser, tried on the admin's log-in page."""

from collections.abc import Callable

from tests.support.browser import PHONE, Pages
from tests.support.databases import Database
from tests.support.servers import Server, free_port


def test_the_admin_works_under_the_content_security_policy(
    pages: Pages, serve: Callable[..., Server], database: Database
) -> None:
    port = free_port()
    command = ["-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "console.asgi:application"]
    server = serve(database, port=port, command=command, ready="/static/vendor/pico/pico.min.css")
    page = pages.open(server, database.user("admin"), "/admin/")
    assert page.title().startswith("Site administration")
    assert pages.screenshot(page, "admin").stat().st_size > 5_000
    phone = pages.open(server, path="/admin/", size=PHONE, scheme="dark")
    assert "Log in" in phone.title()
    assert pages.screenshot(phone, "admin").name.endswith("--390-dark.png")
