"""The main job in the console: log in, search, preview, recover, and read the result, for users with real sockets."""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import PHONE, Pages
from tests.support.clients import connect, eventually, run
from tests.support.databases import Database, TestUser
from tests.support.scenes import (
    PAUSED,
    Serve,
    StuckUser,
    check_chat_works,
    counted_ids,
    lease_is_over,
    make_stuck_user,
    start_together,
)
from tests.support.seed import PASSWORD
from tests.support.servers import Server

T = TypeVar("T")
Aside = Callable[[Coroutine[Any, Any, T]], T]


@contextmanager
def aside() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run an event loop for chat clients in a thread while the test uses the browser. Yields a function that runs a
    coroutine there and waits for its result.
    """
    loops: list[asyncio.AbstractEventLoop] = []
    ends: list[asyncio.Event] = []
    ready = threading.Event()

    async def live() -> None:
        loops.append(asyncio.get_running_loop())
        ends.append(asyncio.Event())
        ready.set()
        await ends[0].wait()

    thread = threading.Thread(target=lambda: run(live()), name="clients")
    thread.start()
    assert ready.wait(10)
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loops[0]).result(60)
    finally:
        loops[0].call_soon_threadsafe(ends[0].set)
        thread.join()


@contextmanager
def stuck_user(serve: Serve, database: Database, user: TestUser) -> Iterator[tuple[Server, StuckUser, Any]]:
    """A server, and a user with 20 managers: 12 of a node that was killed, 5 with silent clients, and 3 alive."""
    serving, doomed = (serve(database, start=False, node_name=name, **PAUSED.settings()) for name in ("web-1", "web-2"))
    start_together(serving, doomed)
    with aside() as wait_for:
        scene: StuckUser = wait_for(make_stuck_user(user, serving=serving, doomed=doomed))
        doomed.kill()
        wait_for(eventually(lambda: lease_is_over(database, "web-2"), within=PAUSED.lease + PAUSED.beat + 1))
        yield serving, scene, wait_for


def log_in(page: Page, name: str) -> None:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def held(page: Page) -> Any:
    return page.locator(".verdict .figure")


def find_u1(page: Page, pages: Pages) -> None:
    """Search for the user on the page of users, and open the user's page."""
    page.get_by_label("Username, email or #id").fill("u1")
    expect(page.locator("#users tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=u1"))
    pages.screenshot(page, "users")
    page.get_by_role("link", name="u1", exact=True).click()


def recover(page: Page, reason: str) -> None:
    """Recover the user by a click, and read that 17 managers were freed and 3 kept."""
    page.locator("#confirm-reason").fill(reason)
    page.get_by_role("button", name="Recover user: free 17 managers, keep 3").click()
    expect(page.locator("#run .run-status")).to_contain_text("17 managers freed, 3 kept.")
    expect(page.locator("#run .change .figure").first).to_have_text("20")
    expect(page.locator("#run .change .figure").last).to_have_text("3")
    expect(held(page)).to_have_text("3 / 20")
    expect(page.locator("#managers tbody tr")).to_have_count(3)


def test_support_recovers_a_stuck_user_by_a_click(pages: Pages, serve: Serve, database: Database) -> None:
    user = database.user("u1")
    with stuck_user(serve, database, user) as (server, stuck, wait_for):
        page = pages.open(server, path="/console/users/")
        log_in(page, "support")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()
        page.wait_for_load_state()

        find_u1(page, pages)

        expect(held(page)).to_have_text("20 / 20")
        expect(page.locator(".sentence")).to_contain_text("12 are dead: 12 on node web-2")
        expect(page.locator("#managers tbody tr")).to_have_count(20)
        pages.screenshot(page, "user")

        page.get_by_role("button", name="Preview").click()
        expect(page.locator("#run .run-status")).to_contain_text("17 managers would be freed, 3 kept.")
        expect(page.locator("#run tbody tr")).to_have_count(20)
        expect(page.locator(".sentence")).to_contain_text("17 are dead")
        pages.screenshot(page, "preview")
        assert len(counted_ids(database, user)) == 20

        recover(page, "a ticket")
        assert counted_ids(database, user) == stuck.living_ids

        wait_for(check_chat_works(stuck.living[0]))
        wait_for(connect(server, user))
        expect(page.locator("#run .handshake")).to_contain_text("u1 is connected again")
        pages.screenshot(page, "recovered")

        page.locator("#run h2 a").click()
        expect(page.get_by_role("heading", name="Requested by")).to_be_visible()
        expect(page.locator("main")).to_contain_text("a ticket")
        pages.screenshot(page, "run")


def test_the_console_works_without_javascript_on_a_phone(pages: Pages, serve: Serve, database: Database) -> None:
    user = database.user("u2")
    with stuck_user(serve, database, user) as (server, stuck, _):
        page = pages.open(server, path="/console/", size=PHONE, scheme="dark", javascript=False)
        log_in(page, "support")
        page.get_by_role("link", name="u2", exact=True).first.click()
        expect(held(page)).to_have_text("20 / 20")

        page.get_by_role("button", name="Preview").click()
        expect(page.locator(".run-status")).to_contain_text("17 managers would be freed, 3 kept.", timeout=15_000)
        page.locator("#confirm-reason").fill("a call")
        page.get_by_role("button", name="Recover user: free 17 managers, keep 3").click()
        expect(page.locator(".run-status")).to_contain_text("17 managers freed, 3 kept.", timeout=15_000)
        assert counted_ids(database, user) == stuck.living_ids


@pytest.fixture
def server(serve: Serve, database: Database) -> Server:
    return serve(database, **PAUSED.settings())


def test_a_form_error_is_shown_at_its_field_which_gets_the_focus(
    pages: Pages, server: Server, database: Database
) -> None:
    page = pages.open(server, database.user("lead"), f"/console/users/{database.user('u1').id}/")
    page.get_by_text("Close all managers of u1").click()
    form = page.locator("#reset-form")
    form.get_by_label("Reason").fill("start anew")
    form.get_by_label("Username, to confirm").fill("u2")
    form.get_by_role("button").click()
    expect(form.get_by_text("Type u1 to confirm.")).to_be_visible()
    expect(form.get_by_label("Reason")).to_have_value("start anew")
    expect(form.get_by_label("Username, to confirm")).to_be_focused()
    expect(form.get_by_label("Username, to confirm")).to_have_accessible_description("Type u1 to confirm.")
    pages.screenshot(page, "wrong")

    form.get_by_label("Username, to confirm").fill("u1")
    form.get_by_role("button").click()
    expect(page.locator("#run .run-status")).to_contain_text("Nothing to do")


def test_a_failed_action_shows_an_error_until_an_action_works(pages: Pages, server: Server, database: Database) -> None:
    user = database.user("u1")
    page = pages.open(server, database.user("lead"), f"/console/users/{user.id}/")
    form = page.locator("#recover-form")
    form.get_by_label("Reason").fill("can't connect")
    database.query(
        "CREATE TRIGGER bad_row BEFORE INSERT ON connections_recoveryrun BEGIN SELECT RAISE(ABORT, 'bad row'); END"
    )
    form.get_by_role("button", name="Recover user").click()
    expect(page.get_by_role("alert")).to_contain_text("The action failed: bad row.")
    with page.expect_response(lambda response: "part=facts" in response.url):
        pass
    expect(page.get_by_role("alert")).to_contain_text("The action failed: bad row.")
    database.query("DROP TRIGGER bad_row")
    form.get_by_role("button", name="Recover user").click()
    expect(page.locator("#run .run-status")).to_contain_text("Nothing to do")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_manager_is_closed_and_the_page_follows(pages: Pages, server: Server, database: Database) -> None:
    user = database.user("u1")
    with aside() as wait_for:
        client = wait_for(connect(server, user, device=None))
        wait_for(client.expect("ready"))
        page = pages.open(server, database.user("support"), f"/console/users/{user.id}/")
        expect(held(page)).to_have_text("1 / 20")
        row = page.locator("#managers tbody tr")
        row.get_by_text("Close").first.click()
        row.get_by_label("Reason").fill("u1 asked")
        row.get_by_role("button", name="Close 1 manager").click()
        assert wait_for(client.closed()) == 4410
        expect(held(page)).to_have_text("0 / 20", timeout=10_000)
        expect(page.locator("#managers")).to_contain_text("holds no manager")


def test_a_half_typed_form_survives_the_polls(pages: Pages, server: Server, database: Database) -> None:
    user = database.user("u1")
    with aside() as wait_for:
        wait_for(wait_for(connect(server, user)).expect("ready"))
        page = pages.open(server, database.user("support"), f"/console/users/{user.id}/")
        row = page.locator("#managers tbody tr")
        row.get_by_text("Close").first.click()
        row.get_by_label("Reason").fill("half a senten")
        with page.expect_response(re.compile("part=facts")):
            page.evaluate("document.dispatchEvent(new CustomEvent('facts-changed'))")
        wait_for(wait_for(connect(server, user)).expect("ready"))
        page.evaluate("document.dispatchEvent(new CustomEvent('facts-changed'))")
        expect(held(page)).to_have_text("2 / 20")
        expect(page.get_by_label("Reason").and_(page.locator("[value], :focus")).first).to_be_visible()
        expect(page.locator("#managers input:focus")).to_have_value("half a senten")


def test_a_limit_is_set_in_place(pages: Pages, server: Server, database: Database) -> None:
    page = pages.open(server, database.user("lead"), f"/console/users/{database.user('u1').id}/")
    page.get_by_text("Change the limit").click()
    form = page.locator("#limit-form")
    form.get_by_label("Managers").fill("5")
    form.get_by_label("For (90s").fill("2h")
    form.get_by_label("Reason").fill("a large family")
    form.get_by_role("button", name="Set the limit").click()
    expect(form.get_by_role("status")).to_have_text("The limit in chat is now 5.")
    expect(held(page)).to_have_text("0 / 5")


def test_several_users_are_chosen_and_the_button_says_how_many(
    pages: Pages, server: Server, database: Database
) -> None:
    page = pages.open(server, database.user("support"), "/console/users/?q=u&sort=username")
    button = page.locator("#bulk-form button")
    expect(button).to_be_disabled()
    page.get_by_label("Choose u1", exact=True).check()
    expect(button).to_have_text("Recover 1 user")
    page.get_by_label("Choose all on this page").check()
    chosen = page.locator("input[name=user_ids]:checked").count()
    expect(button).to_have_text(f"Recover {chosen} users")
    page.locator("#bulk-form").get_by_label("Reason").fill("incident 7")
    button.click()
    expect(page.get_by_text(f"{chosen} recoveries opened.")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(chosen)


def test_after_a_log_out_elsewhere_the_page_goes_to_the_log_in(
    pages: Pages, server: Server, database: Database
) -> None:
    page = pages.open(server, database.user("viewer"), "/console/nodes/")
    page.context.clear_cookies()
    expect(page).to_have_url(re.compile(r"/accounts/login/\?next="), timeout=15_000)
    log_in(page, "viewer")
    expect(page).to_have_url(re.compile(r"/console/nodes/$"))


def test_pages_fit_a_phone_and_are_walked_by_keyboard(pages: Pages, server: Server, database: Database) -> None:
    user = database.user("u1")
    with aside() as wait_for:
        wait_for(wait_for(connect(server, user)).expect("ready"))
        page = pages.open(server, database.user("lead"), size=PHONE, scheme="dark")
        for path in ("", "users/", f"users/{user.id}/", "runs/", "nodes/", "audit/"):
            page.goto(f"/console/{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0], path
            pages.screenshot(page, path.strip("/").replace("/", "-") or "overview")
        page.goto("/console/users/")
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Username, email or #id")).to_be_focused()
