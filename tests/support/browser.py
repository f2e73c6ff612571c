"""A real browser. Chromium comes from this machine or from `make browser`."""

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

# Chromium as root has no sandbox; the rest keeps it from asking its maker's hosts.
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
    """One browser for a module, not for the run: while Playwright runs, this thread has a running event loop."""
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
    """Opens pages, and fails the test at its end if one of them logged an error (a breach of the CSP is one)."""

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
        """A page in a browser context (a separate person's browser), logged in as a user, at `path` if given.

        `page.context.new_page()` is another tab of the same person.
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
        """Saves tests/artifacts/<test>--<name>--<width>-<scheme>.png."""
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
        # A status that the test asked for (422, a 503 while draining) is logged as an error too.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(f"{message.page.url if message.page else ''}: {message.text}")


@pytest.fixture
def pages(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Pages]:
    pages = Pages(chromium, re.sub(r"\W+", "-", request.node.name).strip("-"))
    yield pages
    pages.close()
    assert not pages.errors, "the browser logged:\n" + "\n".join(pages.errors)
