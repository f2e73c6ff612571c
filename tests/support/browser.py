"""Fixtures for tests in a real browser. Its Chromium is the machine's, or the one that `make browser` has fetched."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.support.databases import TestUser
from tests.support.processes import ROOT
from tests.support.servers import Server

WIDE = (1280, 800)
PHONE = (390, 844)
ARTIFACTS = ROOT / "tests" / "artifacts"

# Chromium's sandbox does not work for root; the other arguments keep Chromium from contacting Google's hosts.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-proxy-server",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for name in names:
        if name and (path := shutil.which(name)):
            return path
    packaged = ROOT / ".browser" / "chromium"
    return str(packaged) if packaged.exists() else None


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for each test module. While Playwright runs, this thread has a running event loop, and so the browser
    may not stay open during the tests of other modules.
    """
    path = find_chromium()
    if path is None:
        reason = "no browser: install chromium, or npm and then run `make browser`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Pages:
    """Opens pages. The fixture `pages` fails the test at its end if a page has logged an error, such as a breach of the
    Content-Security-Policy.
    """

    browser: Browser
    test: str
    errors: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        server: Server,
        user: TestUser | None = None,
        path: str | None = None,
        *,
        size: tuple[int, int] = WIDE,
        scheme: Literal["light", "dark"] = "light",
        javascript: bool = True,
    ) -> Page:
        """Open a page in a browser context of its own, logged in as `user` if given, at `path` if given.

        A browser context stands for a separate person's browser; `page.context.new_page()` opens another tab in it.
        """
        context = self.browser.new_context(
            base_url=server.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            java_script_enabled=javascript,
            is_mobile=size == PHONE,
            has_touch=size == PHONE,
        )
        context.set_default_timeout(10_000)
        self._contexts.append(context)
        if user is not None:
            context.add_cookies([{"name": "sessionid", "value": user.session, "url": server.url}])
        context.on("console", self._note)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        page = context.new_page()
        if path is not None:
            page.goto(path)
        return page

    def screenshot(self, page: Page, name: str, *, full: bool = True) -> Path:
        """Save tests/artifacts/<test>--<name>--<width>-<scheme>.png and return its path."""
        assert page.viewport_size is not None
        dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        file = f"{self.test}--{name}--{page.viewport_size['width']}-{'dark' if dark else 'light'}.png"
        path = ARTIFACTS / file
        page.screenshot(path=path, full_page=full, animations="disabled")
        return path

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium also logs an error for each response with a status such as 422 or 503, which tests provoke on
        # purpose.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(f"{message.page.url if message.page else ''}: {message.text}")


@pytest.fixture
def pages(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Pages]:
    pages = Pages(chromium, re.sub(r"\W+", "-", request.node.name).strip("-"))
    yield pages
    pages.close()
    assert not pages.errors, "the browser logged:\n" + "\n".join(pages.errors)
