"""What tests of the web page share: one browser a file, and a tab that may say nothing unexpected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # it takes long to read, and most tests here have no page
    from playwright.sync_api import Browser

    from tests.support.browser import Tab


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.support.browser import running_browser

    with running_browser() as started:
        yield started


@pytest.fixture
def seen(browser: Browser) -> Iterator[Tab]:
    """A tab that may say nothing on its console but what the test expects."""
    from tests.support.browser import tab

    with tab(browser) as opened:
        yield opened
        assert opened.faults() == []
