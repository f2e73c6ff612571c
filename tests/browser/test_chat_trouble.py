"""What the chat page does and shows when something fails, and what it tells screen readers."""

import re
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Shared
from tests.support.browser import Pages
from tests.support.chat_page import (
    Frame,
    WebSocketProxy,
    add_conversations,
    change_module,
    message_field,
    messages,
    open_tab,
    pending,
    send_message,
    wait_until_live,
)


def busy(times: int) -> Any:
    """Answer so many requests with the error that the server is busy, and let later ones through."""
    said: list[Frame] = []

    def answer(frame: Frame) -> Frame | None:
        said.append(frame)
        about = {"conversation": frame["conversation"]} if "conversation" in frame else {}
        error = {"type": "error", "code": "try_again", "message": "That took too long. Please try again."}
        return error | about if len(said) <= times else None

    return answer


def test_the_page_asks_again_for_messages_that_the_server_could_not_load(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 250)
    page = pages.open(shared.server, user)
    change_module(page, "conversations.js", "LATER_MS = 2000", "LATER_MS = 200")
    proxy = WebSocketProxy(page)
    proxy.answers |= {"resume": busy(2), "earlier": busy(1)}
    page.goto(f"/chat/#{conversation}")
    expect(messages(wait_until_live(page))).to_have_count(200)
    page.get_by_role("button", name="Show earlier messages").click()
    expect(messages(page)).to_have_count(250)
    asked = [frame["type"] for frame in proxy.sent if frame["type"] in ("resume", "earlier")]
    assert asked == ["resume"] * 3 + ["earlier"] * 2
    expect(page.locator("#banner")).to_be_hidden()


def test_an_error_is_shown_where_it_belongs_and_can_be_dismissed(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 2)
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    proxy.answers["list_sessions"] = busy(1)
    page.goto("/chat/")
    wait_until_live(page)
    page.get_by_role("button", name="Your sessions").click()
    dialog, banner = page.get_by_role("dialog"), page.locator("#banner")
    expect(dialog).to_contain_text("That took too long. Please try again.")
    page.keyboard.press("Escape")
    expect(banner).to_be_hidden()
    page.get_by_role("button", name="Your sessions").click()
    expect(dialog).to_contain_text("This is your only open session.")
    expect(dialog).not_to_contain_text("Please try again")
    page.keyboard.press("Escape")

    ours = "Something went wrong on our side, and this was not done."
    for about in ({}, {"conversation": conversation}):
        proxy.tell("error", code="internal", message=ours, **about)
        expect(banner).to_contain_text(ours)
        banner.get_by_role("button", name="Dismiss").click()
        expect(banner).to_be_hidden()
        expect(message_field(page)).to_be_focused()


def test_the_page_notices_at_once_that_it_is_offline_and_online_again(shared: Shared, pages: Pages) -> None:
    page = wait_until_live(pages.open(shared.server, shared.user(), "/chat/"))
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_contain_text(
        "reconnecting in"
    )  # sooner than the two heartbeats after which the page notices silence
    send_message(page, "written in a tunnel")
    expect(pending(page)).to_contain_text("waiting for the connection")
    page.context.set_offline(False)
    expect(messages(wait_until_live(page))).to_have_count(2)
    pages.errors.clear()  # failed attempts without a network


def test_the_user_can_reconnect_at_once_instead_of_waiting_for_the_next_attempt(shared: Shared, pages: Pages) -> None:
    page = pages.open(shared.server, shared.user())
    proxy = WebSocketProxy(page)
    page.goto("/chat/")
    wait_until_live(page)
    try_now = page.get_by_role("button", name="Try now")
    expect(try_now).to_be_hidden()
    full = {"code": 4013, "reason": "try_again", "reconnect": "after", "retry_after": 300}
    proxy.tell("closing", **full)
    proxy.cut()
    expect(page.locator("#connection")).to_contain_text(re.compile(r"reconnecting in (300|2\d\d) s"))
    expect(page.locator("#connection")).to_have_attribute("title", re.compile("^the server is busy; reconnecting"))
    pages.screenshot(page, "waiting", full=False)
    try_now.click()
    wait_until_live(page)
    expect(try_now).to_be_hidden()
    expect(message_field(page)).to_be_focused()
    assert proxy.connects == 2

    proxy.tell("closing", **full)
    proxy.cut()
    try_now.focus()
    proxy.come_back()
    expect(message_field(page)).to_be_focused()  # since the button that had the focus is gone


def test_the_notice_of_the_limit_goes_when_other_sessions_are_signed_out(shared: Shared, pages: Pages) -> None:
    page = pages.open(shared.server, shared.user())
    proxy = WebSocketProxy(page)
    page.goto("/chat/")
    open_tab(wait_until_live(page))
    proxy.tell("notice", kind="near_limit", live=2, soft_limit=2)
    banner = page.locator("#banner")
    expect(banner).to_contain_text("You have 2 of 2 sessions open.")
    banner.get_by_role("button", name="See your sessions").click()
    expect(page.locator("#sessions-list > li")).to_have_count(2)
    expect(banner).to_contain_text("You have 2 of 2 sessions open.")
    page.get_by_role("button", name="Sign out the other one").click()
    expect(page.locator("#sessions-list > li")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(banner).to_be_hidden()
    wait_until_live(page)


def test_the_notice_about_too_many_sessions_goes_when_there_are_fewer(shared: Shared, pages: Pages) -> None:
    page = pages.open(shared.server, shared.user())
    change_module(page, "main.js", "RECOUNT_MS = 10_000", "RECOUNT_MS = 500")
    proxy = WebSocketProxy(page)
    page.goto("/chat/")
    wait_until_live(page)
    proxy.tell("notice", kind="over_limit", live=21, soft_limit=20)
    expect(page.locator("#banner")).to_contain_text("You have 21 sessions open, above your limit of 20.")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_new_log_in_leads_back_to_the_conversation(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 4)
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    page.goto(f"/chat/#{conversation}")
    expect(messages(wait_until_live(page))).to_have_count(4)
    shared.database.query("DELETE FROM django_session WHERE session_key = ?", [user.session])
    proxy.tell("closing", code=4403, reason="session_ended", reconnect="never", retry_after=0)
    proxy.cut()
    expect(page.locator("#connection")).to_contain_text("signed out")
    page.locator("#banner").get_by_role("button", name="Log in").click()
    page.get_by_label("Username").fill(user.name)
    page.get_by_label("Password").fill("test")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(f"/chat/#{conversation}$"))
    expect(messages(wait_until_live(page))).to_have_count(4)


HEAR = """() => addEventListener("DOMContentLoaded", () => {
  window.heard = [];  // messages: how they came, to a screen reader
  window.said = [];   // of the connection
  const log = document.getElementById("log");
  const heard = (changes) => changes.forEach(({ addedNodes }) =>
    addedNodes.forEach(({ dataset }) => window.heard.push([Number(dataset.seq), log.parentElement.ariaLive])));
  new MutationObserver(heard).observe(log, { childList: true });
  const said = document.getElementById("connection-said");
  new MutationObserver(() => window.said.push(said.textContent)).observe(said, { childList: true });
})"""


def test_a_screen_reader_hears_what_is_new_and_of_an_outage_once(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 250)
    page = pages.open(shared.server, user)
    page.add_init_script(f"({HEAR})()")
    proxy = WebSocketProxy(page)
    page.goto(f"/chat/#{conversation}")
    expect(messages(wait_until_live(page))).to_have_count(200)
    page.get_by_role("button", name="Show earlier messages").click()
    expect(messages(page)).to_have_count(250)
    assert {politeness for _, politeness in page.evaluate("window.heard")} == {"off"}, "all of it would be read out"
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
    send_message(page, "hello")
    expect(messages(page)).to_have_count(252)
    assert page.evaluate("window.heard.slice(250)") == [[251, "polite"], [252, "polite"]]

    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
    send_message(page, "hello")
    expect(messages(page)).to_have_count(2)
    assert page.evaluate("window.heard.slice(252)") == [[1, "polite"], [2, "polite"]], (
        "also where a conversation begins"
    )

    page.evaluate("window.said = []")
    proxy.go_down()
    attempts = proxy.connects
    while proxy.connects < attempts + 2:
        page.wait_for_timeout(100)
    proxy.come_back()
    assert page.evaluate("window.said") == ["Connection lost. Reconnecting.", "Connection: live."]
