"""Tabs on a wide screen and a phone while servers are killed: no message is lost or doubled, and the order is kept."""

import time
from collections.abc import Callable
from itertools import chain

from playwright.sync_api import Page, expect

from tests.support.browser import PHONE, Pages
from tests.support.chat_page import messages, send_message, wait_until_live
from tests.support.databases import Database, TestUser
from tests.support.servers import Server

Serve = Callable[..., Server]
QUICK = {"beat_seconds": 0.3, "lease_seconds": 2, "sweep_seconds": 0.5}
PATIENT = 60_000  # milliseconds: after a restart, answers wait for a fence, which takes two leases


def asked(page: Page) -> list[str]:
    """The texts of the user's messages, as shown."""
    found: list[str] = page.locator("#log > .message.user .text").all_inner_texts()
    return found


def order(page: Page) -> list[int]:
    return [int(seq) for seq in page.locator("#log > .message").evaluate_all("all => all.map(m => m.dataset.seq)")]


def three_tabs(pages: Pages, server: Server, user: TestUser) -> dict[str, Page]:
    """Two tabs of one browser and a phone, in which the first tab's "hello" has been answered."""
    first = wait_until_live(pages.open(server, user, "/chat/"))
    send_message(first, "hello")
    expect(messages(first)).to_have_count(2)
    second = first.context.new_page()
    second.goto(first.url)
    phone = pages.open(server, user, f"/chat/{first.url[first.url.index('#') :]}", size=PHONE)
    tabs = {"first": first, "second": wait_until_live(second), "phone": wait_until_live(phone)}
    for page in tabs.values():
        expect(messages(page)).to_have_count(2)
    return tabs


def test_messages_written_during_restarts_are_shown_once_and_in_order_in_all_tabs(
    serve: Serve, database: Database, pages: Pages
) -> None:
    server, user = serve(database, **QUICK), database.user("u1")
    tabs = three_tabs(pages, server, user)
    written: dict[str, list[str]] = {name: [] for name in tabs} | {"first": ["hello"]}

    def write(words: str) -> None:
        for name, page in tabs.items():
            send_message(page, f"{words}, {name}")
            written[name].append(f"{words}, {name}")

    for turn, end in enumerate((server.kill, server.terminate, server.kill)):
        write(f"before {turn}")
        end()
        write(f"while it is away {turn}")
        if end == server.terminate:
            server.wait()
        server.start()
        write(f"after {turn}")
    for page in tabs.values():
        expect(page.locator("#pending > li")).to_have_count(0, timeout=PATIENT)
    until_answered(database)
    rows = database.query("SELECT seq, role, text FROM chat_message ORDER BY seq")
    theirs = [text for _, role, text in rows if role == "user"]
    assert sorted(theirs) == sorted(chain(*written.values()))
    for page in tabs.values():
        expect(messages(page)).to_have_count(len(rows), timeout=PATIENT)
        assert order(page) == [seq for seq, _, _ in rows] == list(range(1, len(rows) + 1))
        assert asked(page) == theirs
    for name, mine in written.items():
        assert [text for text in theirs if text in mine] == mine, f"{name} wrote in another order"
    pages.errors.clear()  # refused connections, while nobody listened


def until_answered(database: Database, within: float = PATIENT / 1000) -> None:
    """Wait until the agent has no unfinished turn."""
    ends = time.monotonic() + within
    while database.query("SELECT 1 FROM chat_agentturn WHERE state IN ('queued', 'running')"):
        assert time.monotonic() < ends, "the agent never came to an end"
        time.sleep(0.2)


def test_an_answer_arrives_whichever_of_three_nodes_is_killed_in_the_middle_of_it(
    serve: Serve, postgres_database: Database, bus: str, pages: Pages
) -> None:
    env, user = {"CHANNEL_LAYER_URL": bus}, postgres_database.user("u1")
    killed, *others = (
        serve(postgres_database, node_name=name, ready="/readyz", env=env, **QUICK)
        for name in ("web-1", "web-2", "web-3")
    )
    asks = wait_until_live(pages.open(killed, user, "/chat/"))
    sees, phone = pages.open(others[0], user, "/chat/"), pages.open(others[1], user, "/chat/", size=PHONE)
    send_message(asks, "hello")
    expect(messages(asks)).to_have_count(2)
    place = asks.url[asks.url.index("#") :]
    for page in (sees, phone):
        page.goto(f"/chat/{place}")
        page.reload()
        wait_until_live(page)
        expect(messages(page)).to_have_count(2)

    send_message(asks, "What can you do?")
    for page in (sees, phone):
        expect(page.locator("#turn .text")).not_to_be_empty()  # the answer has begun, on another node
    killed.kill()
    expect(asks.locator("#connection")).to_contain_text("reconnecting in")
    for page in (sees, phone):
        expect(messages(page)).to_have_count(4, timeout=PATIENT)
        expect(page.locator("#turn > *")).to_have_count(0)
    killed.start()
    expect(asks.locator("#connection")).to_have_attribute("data-state", "live", timeout=PATIENT)
    expect(messages(asks)).to_have_count(4)
    rows = postgres_database.query("SELECT seq, role FROM chat_message ORDER BY seq")
    assert rows == [(1, "user"), (2, "assistant"), (3, "user"), (4, "assistant")]
    assert postgres_database.query("SELECT attempt, state FROM chat_agentturn ORDER BY asked_at DESC LIMIT 1") == [
        (2, "completed")
    ]
    answers = {page.locator("#log > .message").last.locator(".text").inner_text() for page in (asks, sees, phone)}
    assert len(answers) == 1
    pages.errors.clear()  # refused connections, while nobody listened
