"""Long conversations and long lists of them are loaded page by page; missing conversations."""

import re
from uuid import uuid4

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Shared
from tests.support.browser import Pages
from tests.support.chat_page import (
    WebSocketProxy,
    add_conversations,
    conversation_links,
    message_field,
    messages,
    pending,
    send_message,
    texts,
    wait_until_live,
)


def earlier(page: Page) -> Locator:
    return page.get_by_role("button", name="Show earlier messages")


def numbers(page: Page) -> list[int]:
    return [int(number) for number in messages(page).evaluate_all("all => all.map(m => m.dataset.seq)")]


def test_earlier_messages_come_page_by_page_and_the_reader_stays_where_they_are(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 350)
    page = wait_until_live(pages.open(shared.server, user, f"/chat/#{conversation}"))
    expect(messages(page)).to_have_count(200)
    assert numbers(page) == list(range(151, 351))
    expect(messages(page).last).to_be_in_viewport()
    reading = messages(page).filter(has_text=re.compile(r"1\.151$"))
    for shown in (300, 350):
        page.locator("#scroll").evaluate("scroll => (scroll.scrollTop = 0)")
        before = reading.bounding_box()
        earlier(page).click()
        expect(messages(page)).to_have_count(shown)
        after = reading.bounding_box()
        assert before is not None
        assert after is not None
        assert abs(after["y"] - before["y"]) < 2, "what was read has moved"
        reading = messages(page).filter(has_text=re.compile(r"1\.51$"))
    assert numbers(page) == list(range(1, 351))
    expect(earlier(page)).to_be_hidden()
    expect(page.locator("#scroll")).to_be_focused()


def test_a_lost_connection_leaves_no_hole_among_earlier_messages(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 350)
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    page.goto(f"/chat/#{conversation}")
    expect(messages(wait_until_live(page))).to_have_count(200)
    # Only half of the page's messages come through; the server sends the oldest first.
    proxy.held = lambda frame: frame.get("seq", 100) >= 100
    earlier(page).click()
    page.wait_for_function("document.getElementById('earlier').disabled")
    proxy.go_down()
    proxy.held = lambda frame: False
    proxy.come_back()
    assert numbers(page) == list(range(151, 351))
    earlier(page).click()
    expect(messages(page)).to_have_count(300)
    assert numbers(page) == list(range(51, 351))


def test_a_link_shows_a_conversation_that_is_too_old_to_be_listed(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    oldest, *_ = add_conversations(shared.database, user, 150, *[2] * 101)
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    proxy.held = lambda frame: frame["type"] in ("message", "earlier")
    page.goto(f"/chat/#{oldest}")
    expect(page.get_by_text("Loading …")).to_be_visible()
    wait_until_live(page)
    page.wait_for_function("document.querySelectorAll('#conversations a').length === 101")
    proxy.go_down()  # so that the answer to the page's request never comes
    proxy.held = lambda frame: False
    proxy.come_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conversation 1")
    expect(messages(page)).to_have_count(100)
    assert numbers(page) == list(range(51, 151))
    earlier(page).click()
    expect(messages(page)).to_have_count(150)

    older = page.get_by_role("button", name="Older conversations")
    expect(conversation_links(page)).to_have_count(101)
    older.click()
    expect(conversation_links(page)).to_have_count(102)
    expect(older).to_be_hidden()
    # The last link before the older conversations came.
    expect(conversation_links(page).filter(has_text=re.compile("Conversation 3$"))).to_be_focused()
    expect(conversation_links(page).last).to_have_text("Conversation 1")
    expect(conversation_links(page).first).to_have_text("Conversation 102")


def test_a_missing_conversation_leaves_only_what_the_user_has_written(shared: Shared, pages: Pages) -> None:
    page = pages.open(shared.server, shared.user())
    proxy = WebSocketProxy(page)
    proxy.held = lambda frame: frame["type"] == "error"
    page.goto(f"/chat/#{uuid4()}")
    send_message(wait_until_live(page), "for nobody")
    message_field(page).fill("half typed")
    proxy.release()
    expect(page.get_by_role("alert")).to_contain_text("There is no such conversation.")
    expect(page).to_have_url(re.compile("/chat/$"))
    expect(message_field(page)).to_have_value("half typed")
    expect(pending(page)).to_contain_text("not sent: You have no such conversation.")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(message_field(page)).to_be_focused()
    page.get_by_role("button", name="Try again").click()
    expect(messages(page)).to_have_count(2)
    expect(page.get_by_role("heading", level=1)).to_have_text("for nobody")


def test_markdown_that_is_nested_too_deeply_is_shown_as_it_was_written(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 10)
    hostile = {2: ">" * 8000, 4: "- " * 8000, 6: "[" * 16_000, 8: "**a _b " * 2000, 10: "a ~~b " * 2500}
    for seq, text in hostile.items():
        shared.database.query(
            "UPDATE chat_message SET text = ? WHERE seq = ? AND conversation_id = ?",
            [f"{text} to the end", seq, conversation.replace("-", "")],
        )
    page = wait_until_live(pages.open(shared.server, user, f"/chat/#{conversation}"))
    expect(messages(page)).to_have_count(10)
    shown = texts(page)
    for seq, text in hostile.items():
        assert shown[seq - 1].endswith("to the end"), f"message {seq} is not shown"
        if text.startswith(">"):
            assert shown[seq - 1].startswith(">>>>")
    send_message(page, "hello")
    expect(messages(page)).to_have_count(12)
