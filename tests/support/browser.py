"""A real browser for tests of the web page: Debian's Chromium, without a window, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

LIMIT = 120.0  # seconds that only bound a wait

Theme = Literal["light", "dark"]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """For one module at a time: while it runs, this thread has an event loop, and no coroutine's test can have one."""
    program = shutil.which("chromium")
    assert program is not None, "no chromium: make test installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            timeout=LIMIT * 1000,
            # root has no sandbox, a container little shared memory
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page of a browser context of its own (no storage is shared), and what its console said."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(LIMIT * 1000)
        self.said: list[str] = []
        self.expected: list[str] = []  # parts of lines that belong to the test, such as an answer of 400
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.type}: {message.text}")

    def faults(self) -> list[str]:
        """What the console said, but for what is expected."""
        return [line for line in self.said if not any(part in line for part in self.expected)]

    def open(self, url: str, view: str = "services") -> Page:
        """Goes to a view of the page, anew."""
        self.page.goto("about:blank")
        self.page.goto(f"{url}/#/{view}")
        self.live()
        return self.page

    def live(self) -> None:
        self.page.wait_for_selector("#link[data-state=live]")

    def wait(self, expression: str, argument: object = None) -> None:
        """Until the JavaScript expression, or function of `argument`, is true."""
        self.page.wait_for_function(expression, arg=argument, polling=50)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def ailments(self) -> list[str]:
        """What axe-core finds that is serious or critical, with the elements."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


@contextmanager
def tab(browser: Browser, *, theme: Theme = "light", width: int = 1280, height: int = 800) -> Iterator[Tab]:
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": height})
    try:
        yield Tab(context)
    finally:
        context.close()
