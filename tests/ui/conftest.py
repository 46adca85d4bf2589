"""A real browser for the tests of pages: Debian's Chromium without a window, driven by Playwright.

``browser`` is one Chromium process for the session. ``page`` is a fresh page in it, of the test's own event loop, so
that a server started in the test answers it; ``observed`` tells what went wrong on it::

    async def test_it(page, observed):
        await page.goto(url)
        assert not observed.problems

``STREAMCHAR_TEST_BROWSER=required`` turns what would be skipped into failures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests import debian
from tests.ui.observed import LAPTOP, Observed

CHOICE = "STREAMCHAR_TEST_BROWSER"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's sandbox refuses to start for root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Browser:
    """A running Chromium: where it is installed, and where it listens for the developer tools' protocol."""

    executable: Path
    endpoint: str


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Debian's Chromium; what needs it is skipped where it can be neither found nor installed."""
    try:
        debian.install({"chromium": "chromium"})
    except debian.ProgramsMissingError as error:
        if os.environ.get(CHOICE) == "required":
            pytest.fail(f"a browser is required and there is none: {error}", pytrace=False)
        pytest.skip(f"no browser to look at pages with: {error}")
    found = shutil.which("chromium")
    assert found is not None
    return Path(found)


@pytest.fixture(scope="session")
def browser(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for the whole session, listening on a free port of this machine only."""
    profile = tmp_path_factory.mktemp("chromium")
    with (profile / "log").open("wb") as log:
        command = [str(chromium), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield Browser(chromium, f"http://127.0.0.1:{_port(process, profile)}")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    shutil.rmtree(profile, ignore_errors=True)


def _port(process: subprocess.Popen[bytes], profile: Path) -> int:
    announcement, deadline = profile / "DevToolsActivePort", time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        lines = announcement.read_text().splitlines() if announcement.exists() else []
        if len(lines) > 1:
            return int(lines[0])
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start: {(profile / 'log').read_text()[-2000:]}")


@pytest.fixture
def observed() -> Observed:
    """What ``page`` did that it should not have done."""
    return Observed()


@pytest_asyncio.fixture
async def page(browser: Browser, observed: Observed) -> AsyncIterator[Page]:
    """A fresh page of a laptop's size, in a context of its own, watched by ``observed``."""
    async with async_playwright() as playwright:
        connection = await playwright.chromium.connect_over_cdp(browser.endpoint, timeout=60_000)
        context = await connection.new_context(viewport=LAPTOP)
        context.set_default_timeout(60_000)
        made = await context.new_page()
        observed.watch(made)
        yield made
        await context.close()
        await connection.close()
