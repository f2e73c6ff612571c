"""Drafts and messages: their length is bounded, and they are not lost."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Shared
from tests.support.browser import PHONE, Pages
from tests.support.chat_page import (
    WebSocketProxy,
    conversation_links,
    message_field,
    messages,
    pending,
    reload,
    send_message,
    texts,
    wait_until_live,
)

LONGEST = 8192


def test_a_message_that_is_too_long_is_not_cut_and_not_sent_before_it_is_shorter(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    page = wait_until_live(pages.open(shared.server, user, "/chat/"))
    send, length = page.get_by_role("button", name="Send"), page.locator("#length")
    message_field(page).fill("x" * 7000)
    expect(length).to_be_hidden()
    message_field(page).fill("x" * LONGEST)
    expect(length).to_have_text("8192 of 8192 characters")
    expect(send).to_be_enabled()
    page.keyboard.type("y")
    expect(length).to_have_text("8193 characters; a message has 8192 at most.")
    expect(send).to_be_disabled()
    expect(message_field(page)).to_have_attribute("aria-invalid", "true")
    pages.screenshot(page, "too-long", full=False)
    page.keyboard.press("Enter")
    expect(message_field(page)).to_have_value("x" * LONGEST + "y")
    expect(pending(page)).to_have_count(0)
    page.keyboard.press("Backspace")
    expect(send).to_be_enabled()
    page.keyboard.press("Enter")
    expect(messages(page)).to_have_count(2)
    expect(message_field(page)).to_have_value("")
    expect(length).to_be_hidden()
    said = "SELECT text FROM chat_message WHERE sender_id = ?"
    assert shared.database.query(said, [user.id]) == [("x" * LONGEST,)]


def test_characters_are_counted_as_people_count_them(shared: Shared, pages: Pages) -> None:
    page = wait_until_live(pages.open(shared.server, shared.user(), "/chat/"))
    message_field(page).fill("😀" * LONGEST)
    expect(page.locator("#length")).to_have_text("8192 of 8192 characters")
    page.get_by_role("button", name="Send").click()
    expect(messages(page)).to_have_count(2)
    assert texts(page)[0] == "😀" * LONGEST


def test_a_draft_stays_with_its_conversation_also_over_a_reload(shared: Shared, pages: Pages) -> None:
    page = wait_until_live(pages.open(shared.server, shared.user(), "/chat/"))
    new = page.get_by_role("button", name="New conversation")
    send_message(page, "the first")
    expect(messages(page)).to_have_count(2)
    message_field(page).fill("for the first")
    new.click()
    expect(message_field(page)).to_have_value("")
    message_field(page).fill("for a new one")
    reload(page)
    expect(message_field(page)).to_have_value("for a new one")
    conversation_links(page).click()
    expect(message_field(page)).to_have_value("for the first")
    reload(page)
    expect(message_field(page)).to_have_value("for the first")
    expect(messages(page)).to_have_count(2)
    message_field(page).press("Enter")
    expect(messages(page)).to_have_count(4)
    reload(page)
    expect(message_field(page)).to_have_value("")

    page.goto("/chat/")
    expect(message_field(wait_until_live(page))).to_have_value("for a new one")
    conversation_links(page).click()
    new.click()
    expect(message_field(page)).to_have_value("for a new one")
    message_field(page).press("Enter")
    expect(messages(page)).to_have_count(2)
    expect(conversation_links(page)).to_have_text(["for a new one", "the first"])
    new.click()
    expect(message_field(page)).to_have_value("")
    expect(page.get_by_role("heading", level=1)).to_have_text("New conversation")


def test_a_message_that_the_server_sends_back_counts_as_stored_even_if_its_ack_is_lost(
    shared: Shared, pages: Pages
) -> None:
    page = pages.open(shared.server, shared.user())
    proxy = WebSocketProxy(page)
    page.goto("/chat/")
    wait_until_live(page)
    proxy.held = lambda frame: frame["type"] == "ack"
    for words in ("one", "two"):
        send_message(page, words)
    expect(messages(page)).to_have_count(4)
    expect(pending(page)).to_have_count(0)
    proxy.release()
    send_message(page, "three")
    expect(messages(page)).to_have_count(6)
    assert [frame["text"] for frame in proxy.sent if frame["type"] == "user_message"] == ["one", "two", "three"]


def test_a_message_of_blanks_is_not_sent(shared: Shared, pages: Pages) -> None:
    page = wait_until_live(pages.open(shared.server, shared.user(), "/chat/"))
    message_field(page).press("Enter")
    send_message(page, " \n ")
    expect(message_field(page)).to_be_focused()
    expect(pending(page)).to_have_count(0)
    expect(messages(page)).to_have_count(0)


def open_list(page: Page) -> None:
    """Open the list of conversations on a phone, and check that it covers the rest."""
    page.get_by_role("button", name="Conversations").click()
    expect(page.get_by_role("navigation", name="Conversations")).to_be_visible()
    expect(page.get_by_role("button", name="New conversation")).to_be_focused()
    expect(page.locator("#chat-main")).to_have_attribute("inert", "")
    unfocusable = "text => (text.focus(), document.activeElement !== text)"
    assert page.locator("#text").evaluate(unfocusable), "it is covered"


def check_list_is_closed(page: Page) -> None:
    expect(page.get_by_role("navigation", name="Conversations")).to_be_hidden()
    expect(page.get_by_role("button", name="Conversations")).to_have_attribute("aria-expanded", "false")
    expect(page.locator("#chat-main")).not_to_have_attribute("inert", "")


def test_on_a_phone_enter_begins_a_new_line_and_the_list_covers_the_rest(shared: Shared, pages: Pages) -> None:
    page = wait_until_live(pages.open(shared.server, shared.user(), "/chat/", size=PHONE))
    message_field(page).fill("one")
    message_field(page).press("Enter")
    page.keyboard.type("line more")
    expect(message_field(page)).to_have_value("one\nline more")
    page.get_by_role("button", name="Send").click()
    expect(messages(page)).to_have_count(2)
    assert texts(page)[0] == "one\nline more"

    toggle, new = page.get_by_role("button", name="Conversations"), page.get_by_role("button", name="New conversation")
    expect(page.get_by_role("navigation", name="Conversations")).to_be_hidden()
    open_list(page)
    expect(page.locator("#side-toggle")).to_have_attribute("aria-expanded", "true")
    pages.screenshot(page, "list")
    page.keyboard.press("Escape")
    check_list_is_closed(page)
    expect(toggle).to_be_focused()
    open_list(page)
    page.get_by_role("button", name="Close").click()
    check_list_is_closed(page)
    expect(toggle).to_be_focused()
    open_list(page)
    new.click()
    check_list_is_closed(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("New conversation")
    open_list(page)
    conversation_links(page).click()
    check_list_is_closed(page)
    expect(toggle).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("one line more")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("forbidden", [["localStorage"], ["localStorage", "sessionStorage"]])
def test_the_chat_works_in_a_browser_without_storage(shared: Shared, pages: Pages, forbidden: list[str]) -> None:
    page = pages.open(shared.server, shared.user())
    page.add_init_script(
        f"for (const name of {json.dumps(forbidden)})"
        " Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError'); } });"
    )
    page.goto("/chat/")
    for count, words in ((2, "one"), (4, "two")):
        send_message(wait_until_live(page), words)
        expect(messages(page)).to_have_count(count)
    expect(pending(page)).to_have_count(0)
    message_field(page).fill("half typed")
    page.get_by_role("button", name="New conversation").click()
    conversation_links(page).click()
    expect(message_field(page)).to_have_value("half typed")
    expect(page).to_have_url(re.compile(r"/chat/#[0-9a-f]{8}-"))
    reload(page)
    expect(messages(page)).to_have_count(4)
