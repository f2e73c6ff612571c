"""Several tabs of one browser share their unsent messages: any tab may send each once, as the user who wrote it."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Shared
from tests.support.browser import Pages
from tests.support.chat_page import (
    Frame,
    WebSocketProxy,
    change_module,
    conversation_links,
    message_field,
    messages,
    open_tab,
    pending,
    reload,
    send_message,
    texts,
    wait_until_live,
)
from tests.support.databases import TestUser

BEGUN = re.compile(r"#[0-9a-f]{8}-")


def stored(shared: Shared, user: TestUser) -> list[tuple[Any, ...]]:
    """The user's stored messages as (conversation, text), in the order in which they were stored."""
    return shared.database.query(
        "SELECT conversation_id, text FROM chat_message WHERE sender_id = ? ORDER BY id", [user.id]
    )


def takes_over_after(page: Page, milliseconds: int) -> None:
    """Make a page send the messages that another tab has not sent for so long. Call it before the page is loaded."""
    change_module(page, "outbox.js", "TAKE_OVER_MS = 10_000", f"TAKE_OVER_MS = {milliseconds}")


def log_in(page: Page, user: TestUser, shared: Shared) -> None:
    """Log in as another user, as another tab of the same browser would, by changing the session cookie."""
    page.context.add_cookies([{"name": "sessionid", "value": user.session, "url": shared.server.url}])


# Sends a message and types another one at the moment at which the page is left.
AT_LAST = """([said, typed]) => addEventListener("beforeunload", () => {
  const text = document.getElementById("text");
  text.value = said;
  text.form.requestSubmit();
  text.value = typed;
  text.dispatchEvent(new Event("input"));
})"""


@pytest.mark.parametrize("signed_out", [False, True])
def test_an_unsent_message_is_never_sent_as_another_user_of_the_same_browser(
    shared: Shared, pages: Pages, signed_out: bool
) -> None:
    ada, grace = shared.user(), shared.user()
    page = pages.open(shared.server, ada)
    proxy = WebSocketProxy(page)
    page.goto("/chat/")
    send_message(wait_until_live(page), "hello")
    expect(messages(page)).to_have_count(2)
    if signed_out:
        proxy.tell("closing", code=4412, reason="closed_by_user", reconnect="never", retry_after=0)
        proxy.cut()
        expect(page.locator("#banner")).to_contain_text("You signed this tab out")
    else:
        proxy.go_down()
    send_message(page, "queued by ada")

    log_in(page, grace, shared)
    page.evaluate(AT_LAST, ["and a last word", "typed by ada"])
    if signed_out:
        page.get_by_role("button", name="Use here").click()
    else:
        proxy.come_back()
    expect(page.get_by_role("button", name=f"Log out {grace.name}")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("New conversation")
    send_message(wait_until_live(page), "I am grace")
    expect(messages(page)).to_have_count(2)
    expect(message_field(page)).to_have_value("")
    expect(pending(page)).to_have_count(0)
    assert [text for _, text in stored(shared, grace)] == ["I am grace"]
    assert [text for _, text in stored(shared, ada)] == ["hello"]

    log_in(page, ada, shared)
    page.goto("/chat/")
    reload(page)
    conversation_links(page).filter(has_text="hello").click()
    expect(messages(page)).to_have_count(6)
    expect(message_field(page)).to_have_value("typed by ada")
    assert [text for _, text in stored(shared, ada)] == ["hello", "queued by ada", "and a last word"]
    assert [text for _, text in stored(shared, grace)] == ["I am grace"]


def test_the_first_tab_that_reconnects_sends_the_messages_of_another_and_both_keep_their_conversations(
    shared: Shared, pages: Pages
) -> None:
    user = shared.user()
    first = pages.open(shared.server, user)
    second = first.context.new_page()
    takes_over_after(second, 300)
    proxies = [WebSocketProxy(page) for page in (first, second)]
    for page, proxy in zip((first, second), proxies, strict=True):
        page.goto("/chat/")
        wait_until_live(page)
        proxy.go_down()
    message_field(second).fill("half typed")
    for words in ("one", "two"):
        send_message(first, words)
    expect(pending(first).nth(1)).to_contain_text("waiting for the message above")
    expect(conversation_links(second)).to_have_text(["one"])

    proxies[1].come_back()
    expect(conversation_links(second)).to_have_attribute("href", BEGUN)
    expect(first).to_have_url(BEGUN)
    proxies[0].come_back()
    expect(messages(first)).to_have_count(4)
    send_message(first, "three")
    expect(messages(first)).to_have_count(6)
    expect(pending(first)).to_have_count(0)
    assert [words for words in texts(first) if words in ("one", "two", "three")] == ["one", "two", "three"]
    said = stored(shared, user)
    assert [text for _, text in said] == ["one", "two", "three"]
    assert len({conversation for conversation, _ in said}) == 1

    expect(conversation_links(second)).to_have_count(1)
    expect(second.get_by_role("heading", level=1)).to_have_text("New conversation")
    expect(message_field(second)).to_have_value("half typed")
    expect(messages(second)).to_have_count(0)
    conversation_links(second).click()
    expect(messages(second)).to_have_count(6)


def test_another_conversation_may_be_begun_before_the_first_is_stored(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    page.goto("/chat/")
    wait_until_live(page)
    proxy.held = lambda frame: frame["type"] != "ping"
    send_message(page, "the first")
    expect(page.get_by_role("heading", level=1)).to_have_text("the first")
    page.get_by_role("button", name="New conversation").click()
    message_field(page).fill("typed meanwhile")
    expect(conversation_links(page)).to_have_text(["the first"])
    expect(conversation_links(page)).to_have_attribute("href", re.compile("#new-"))
    expect(pending(page)).to_have_count(0)

    proxy.release()
    expect(conversation_links(page)).to_have_attribute("href", BEGUN)
    expect(page.get_by_role("heading", level=1)).to_have_text("New conversation")
    expect(message_field(page)).to_have_value("typed meanwhile")
    expect(messages(page)).to_have_count(0)
    page.keyboard.press("Enter")
    expect(messages(page)).to_have_count(2)
    assert texts(page)[0] == "typed meanwhile"
    expect(conversation_links(page)).to_have_text(["typed meanwhile", "the first (new message)"])
    assert len({conversation for conversation, _ in stored(shared, user)}) == 2
    page.go_back()  # to the history entry of the new conversation, which has its id by now
    expect(page.get_by_role("heading", level=1)).to_have_text("the first")
    expect(messages(page)).to_have_count(2)


def test_unsent_messages_of_a_closed_tab_are_sent_by_another(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    closes = pages.open(shared.server, user)
    proxy = WebSocketProxy(closes)
    closes.goto("/chat/")
    wait_until_live(closes)
    stays = closes.context.new_page()
    takes_over_after(stays, 1000)
    stays.goto("/chat/")
    wait_until_live(stays)
    proxy.go_down()
    send_message(closes, "left behind")
    expect(conversation_links(stays)).to_have_attribute("href", re.compile("#new-"))
    closes.close()
    expect(conversation_links(stays)).to_have_attribute("href", BEGUN)
    conversation_links(stays).click()
    expect(messages(stays)).to_have_count(2)
    assert [text for _, text in stored(shared, user)] == ["left behind"]


def test_later_messages_wait_for_one_that_is_refused_until_it_is_discarded(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)

    def refused(frame: Frame) -> Frame | None:
        if frame["text"] != "one":
            return None
        message = {"client_id": frame["client_id"], "code": "bad_field", "message": "Nobody wants this."}
        return {"type": "error"} | message

    proxy.answers["user_message"] = refused
    page.goto("/chat/")
    wait_until_live(page)
    for words in ("one", "two", "three"):
        send_message(page, words)
    expect(pending(page).nth(0)).to_contain_text("not sent: Nobody wants this.")
    for later in (1, 2):
        expect(pending(page).nth(later)).to_contain_text("waiting for the message above")
    other = open_tab(page)
    expect(conversation_links(other)).to_have_text(["one"])
    page.get_by_role("button", name="Try again").click()
    expect(message_field(page)).to_be_focused()
    expect(pending(page).nth(0)).to_contain_text("not sent")
    assert [frame["text"] for frame in proxy.sent if frame["type"] == "user_message"] == ["one", "one"]
    pages.screenshot(page, "refused")

    page.get_by_role("button", name="Discard").click()
    expect(message_field(page)).to_be_focused()
    expect(messages(page)).to_have_count(4)
    expect(pending(page)).to_have_count(0)
    said = stored(shared, user)
    assert [text for _, text in said] == ["two", "three"]
    assert len({conversation for conversation, _ in said}) == 1
    expect(conversation_links(other)).to_have_text(["two (new message)"])
