"""The chat page in a real browser: a conversation, the end of its socket, and the way back."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.support.browser import PHONE, WIDE, Pages
from tests.support.chat_page import messages, reload, send_message, texts, wait_until_live
from tests.support.databases import Database
from tests.support.processes import manage_json
from tests.support.servers import Server

Serve = Callable[..., Server]


def held(database: Database, user: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manage_json("list_managers", "--user", user, db=database)
    return found


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")])
def test_a_question_is_answered_and_there_after_a_reload(
    serve: Serve, database: Database, pages: Pages, size: tuple[int, int], scheme: Any
) -> None:
    page = wait_until_live(pages.open(serve(database), database.user("u1"), "/chat/", size=size, scheme=scheme))
    page.get_by_role("button", name="Where am I signed in?").click()
    expect(messages(page)).to_have_count(2)
    expect(page.get_by_role("heading", level=1)).to_have_text("Where am I signed in?")
    assert "1 session open" in texts(page)[1]
    page.locator(".steps summary").click()
    expect(page.get_by_text("You ask about your sessions, so I look at what is open.")).to_be_visible()
    expect(page.locator(".steps code")).to_have_text("my_sessions")
    pages.screenshot(page, "answered")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"

    reload(page)
    expect(messages(page)).to_have_count(2)
    page.locator(".steps summary").click()
    expect(page.get_by_text("You ask about your sessions, so I look at what is open.")).to_be_visible()
    expect(page.locator(".steps code")).to_have_text("my_sessions")
    send_message(page, "<b>two</b>\nlines")
    expect(messages(page)).to_have_count(4)
    assert texts(page)[2] == "<b>two</b>\nlines"
    assert len(held(database, "u1")) == 1, "a reload replaces its own record"


def test_an_answer_under_way_can_be_stopped(serve: Serve, database: Database, pages: Pages) -> None:
    server = serve(database)
    page = wait_until_live(pages.open(server, database.user("u1"), "/chat/"))
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_hidden()
    send_message(page, "What can you do?")
    stop.wait_for()
    server.freeze()  # an answer takes a third of a second, and a click may take longer
    stop.click()
    pages.screenshot(page, "stopping")
    server.thaw()
    expect(messages(page)).to_have_count(2)
    assert texts(page)[1].endswith("Stopped, as you asked.")
    expect(stop).to_be_hidden()
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    reload(page)
    expect(messages(page)).to_have_count(2)


ANSWER = """# Findings

**Bold**, *leaning*, `code` and [a link](https://example.org/a?b=1&c=2).

1. one
2. two
   - deeper

| file | lines |
|---|---:|
| a_long_name.py | 3 |

```
if a < b: print("x")
```
> said before

4. four

<script>window.attacked = "script"</script> and <img src=x onerror="window.attacked = 'img'"> and
<a href="javascript:window.attacked = 'a'">raw</a> and [poisoned](javascript:window.attacked='md') and
[relative](/admin/) and ![picture](https://example.org/pixel.png)
"""


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")])
def test_an_answer_may_hold_markdown_and_nothing_that_does_harm(
    serve: Serve, database: Database, pages: Pages, size: tuple[int, int], scheme: Any
) -> None:
    page = wait_until_live(pages.open(serve(database), database.user("u1"), "/chat/", size=size, scheme=scheme))
    send_message(page, "# not a **heading** of mine <b>")
    expect(messages(page)).to_have_count(2)
    assert texts(page)[0] == "# not a **heading** of mine <b>"
    database.query("UPDATE chat_message SET text = ? WHERE role = 'assistant'", [ANSWER])
    reload(page)
    expect(messages(page)).to_have_count(2)
    said = messages(page).nth(1).locator(".text")
    for tag, words in {
        "h3": "Findings", "strong": "Bold", "em": "leaning", "p code": "code",
        "ol:not([start]) > li:first-child": "one", "li li": "deeper",
        "td:first-child": "a_long_name.py", "pre": 'if a < b: print("x")', "blockquote": "said before",
    }.items():  # fmt: skip
        expect(said.locator(tag)).to_have_text(words)
    expect(said.locator("td:last-child")).to_have_css("text-align", "right")
    expect(said.locator("ol").last).to_have_attribute("start", "4")
    links = said.locator("a[href]")
    assert [link.get_attribute("href") for link in links.all()] == ["https://example.org/a?b=1&c=2"]
    assert links.first.get_attribute("rel") == "noopener noreferrer nofollow"
    assert said.locator("script, img, [onerror]").count() == 0
    assert "<script>window.attacked" in said.inner_text()
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pages.screenshot(page, "markdown")


def test_a_logged_out_user_is_sent_to_the_log_in_page_and_back(serve: Serve, database: Database, pages: Pages) -> None:
    page = pages.open(serve(database), path="/chat/")
    expect(page).to_have_url(re.compile(r"/accounts/login/\?next=/chat/$"))
    page.get_by_label("Username").fill("u1")
    page.get_by_label("Password").fill("test")
    page.get_by_role("button", name="Log in").click()
    wait_until_live(page)


def test_a_message_written_while_the_server_is_away_is_sent_once_it_is_back(
    serve: Serve, database: Database, pages: Pages
) -> None:
    server = serve(database)
    page = wait_until_live(pages.open(server, database.user("u1"), "/chat/"))
    send_message(page, "hello")
    expect(messages(page)).to_have_count(2)
    server.kill()
    expect(page.locator("#connection")).to_contain_text("reconnecting in")
    for words in ("first", "second"):
        send_message(page, words)
    expect(page.locator("#pending")).to_contain_text("waiting for the connection")
    pages.screenshot(page, "reconnecting", full=False)
    server.start()
    reload(page)
    expect(page.locator("#pending > li")).to_have_count(0)
    expect(messages(page)).to_have_count(6)
    pages.errors.clear()  # refused connections, while nobody listened
    mine = database.query("SELECT text FROM chat_message WHERE role = 'user' ORDER BY seq")
    assert mine == [("hello",), ("first",), ("second",)]
    assert [words for words in texts(page) if words in ("first", "second")] == ["first", "second"]


def test_messages_of_a_new_conversation_wait_for_its_first_message(
    serve: Serve, database: Database, pages: Pages
) -> None:
    server = serve(database)
    page = wait_until_live(pages.open(server, database.user("u1"), "/chat/"))
    server.kill()
    expect(page.locator("#connection")).to_contain_text("reconnecting in")
    for words in ("first", "second", "third"):
        send_message(page, words)
    server.start()
    expect(messages(page)).to_have_count(6, timeout=20_000)
    pages.errors.clear()
    assert database.query("SELECT text FROM chat_message WHERE role = 'user' ORDER BY id") == [
        ("first",),
        ("second",),
        ("third",),
    ]
    assert database.query("SELECT count(*) FROM chat_conversation") == [(1,)]


def test_two_tabs_show_the_same(serve: Serve, database: Database, pages: Pages) -> None:
    first = wait_until_live(pages.open(serve(database), database.user("u1"), "/chat/"))
    send_message(first, "hello")
    expect(messages(first)).to_have_count(2)
    second = first.context.new_page()
    second.goto(first.url)
    wait_until_live(second)
    for tab, words in ((first, "from the first"), (second, "from the second")):
        send_message(tab, words)
    for tab in (first, second):
        expect(messages(tab)).to_have_count(6)
    assert texts(first) == texts(second)
    assert len(held(database, "u1")) == 2


def test_a_duplicated_tab_is_a_tab_of_its_own(serve: Serve, database: Database, pages: Pages) -> None:
    first = wait_until_live(pages.open(serve(database), database.user("u1"), "/chat/"))
    copied = json.dumps(first.evaluate("Object.entries(sessionStorage)"))
    second = first.context.new_page()
    # Copy the session storage, as a browser does when it duplicates a tab. A later reload keeps the tab's own.
    second.add_init_script(
        f"if (!sessionStorage.length) {copied}.forEach(([name, value]) => sessionStorage.setItem(name, value))"
    )
    second.goto("/chat/")
    wait_until_live(second)
    reload(second)
    wait_until_live(first)
    devices = {record["device"] for record in held(database, "u1")}
    assert len(devices) == 2
    assert first.evaluate("sessionStorage.getItem('chat.device')") in devices
    for tab in (first, second):
        send_message(tab, "hello")
        expect(messages(tab)).to_have_count(2)


def test_an_evicted_tab_comes_back_with_use_here_and_tabs_do_not_evict_each_other_in_turn(
    serve: Serve, database: Database, pages: Pages
) -> None:
    server = serve(database, soft_limit=1, burst=1, probe_seconds=0.5, beat_seconds=0.5, lease_seconds=4)
    tabs = [wait_until_live(pages.open(server, database.user("u1"), "/chat/"))]
    tabs.append(tabs[0].context.new_page())
    for taken, other in ((1, 0), (0, 1), (1, 0)):
        if tabs[taken].url == "about:blank":
            tabs[taken].goto("/chat/")
        else:
            tabs[taken].get_by_role("button", name="Use here").click()
        expect(tabs[other].locator("#connection")).to_contain_text("used elsewhere", timeout=10_000)
        wait_until_live(tabs[taken])
    pages.screenshot(tabs[0], "evicted", full=False)
    send_message(tabs[1], "Where am I signed in?")
    expect(messages(tabs[1])).to_have_count(2)
    tabs[1].locator(".steps summary").click()
    pages.screenshot(tabs[1], "used-here", full=False)
    expect(tabs[0].locator("#connection")).to_have_attribute("data-state", "ended")
    # The user asked for three connects after the first one, and the page made no other.
    assert len(manage_json("list_managers", "--user", "u1", "--state", "all", db=database)) == 4


def test_the_other_sessions_are_listed_and_signed_out(serve: Serve, database: Database, pages: Pages) -> None:
    server, user = serve(database), database.user("u1")
    page = wait_until_live(pages.open(server, user, "/chat/"))
    other = page.context.new_page()
    other.goto("/chat/")
    wait_until_live(other)

    page.get_by_role("button", name="Your sessions").click()
    expect(page.locator("#sessions-list > li")).to_have_count(2)
    expect(page.locator("#sessions-list > .current")).to_contain_text("this one")
    pages.screenshot(page, "sessions", full=False)
    page.get_by_role("button", name="Sign out the other one").click()
    expect(page.locator("#sessions-list > li")).to_have_count(1)
    expect(other.locator("#banner")).to_contain_text("You signed this tab out")
    expect(other.get_by_role("button", name="Use here")).to_be_visible()
    pages.screenshot(page, "signed-out", full=False)
    pages.screenshot(other, "signed-out-there", full=False)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    wait_until_live(page)


def test_near_the_limit_the_page_says_so_and_shows_the_sessions(serve: Serve, database: Database, pages: Pages) -> None:
    server = serve(database, soft_limit=1)
    page = wait_until_live(pages.open(server, database.user("u1"), "/chat/"))
    expect(page.locator("#banner")).to_contain_text("You have 1 of 1 sessions open.")
    pages.screenshot(page, "near-the-limit", full=False)
    page.get_by_role("button", name="See your sessions").click()
    expect(page.get_by_role("dialog")).to_contain_text("This is your only open session.")


def test_logging_out_elsewhere_ends_this_tab_with_a_way_to_log_in(
    serve: Serve, database: Database, pages: Pages
) -> None:
    server = serve(database, reconcile_seconds=2)
    page = wait_until_live(pages.open(server, database.user("u1"), "/chat/"))
    database.query("DELETE FROM django_session")
    expect(page.locator("#connection")).to_contain_text("signed out", timeout=10_000)
    expect(page.locator("#banner").get_by_role("button", name="Log in")).to_have_attribute(
        "href", "/accounts/login/?next=/chat/"
    )


def test_a_server_that_falls_silent_is_noticed(serve: Serve, database: Database, pages: Pages) -> None:
    server = serve(database, heartbeat_seconds=1, pong_seconds=1)
    page = pages.open(server, database.user("u1"))
    deaf: list[bool] = []
    sockets: list[WebSocketRoute] = []

    def between(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        upstream = socket.connect_to_server()
        upstream.on_message(lambda text: None if deaf else socket.send(text))

    page.route_web_socket("**/ws/chat/**", between)
    page.goto("/chat/")
    wait_until_live(page)
    page.wait_for_timeout(3000)  # three heartbeats, in which the server sends nothing but pings
    assert len(sockets) == 1
    deaf.append(True)
    expect(page.locator("#connection")).to_contain_text("reconnecting in", timeout=4000)
    deaf.clear()
    wait_until_live(page)
    assert len(sockets) == 2
