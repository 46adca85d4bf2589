"""What a page did that it should not have done, and the sizes at which pages are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Page, Request

LAPTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}
_LOCAL_SCHEMES = {"about", "blob", "data", "file"}


@dataclass
class Observed:
    """What a page did that it should not have done."""

    console_errors: list[str] = field(default_factory=list)
    external_requests: list[str] = field(default_factory=list)
    failed_requests: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything recorded, in words."""
        return [
            *(f"console: {text}" for text in self.console_errors),
            *(f"external request: {url}" for url in self.external_requests),
            *(f"failed request: {text}" for text in self.failed_requests),
        ]

    def watch(self, page: Page) -> None:
        """Record what happens on a page from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        page.on("request", self._on_request)
        page.on("requestfailed", lambda request: self.failed_requests.append(request.url[:200]))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.console_errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in _LOCAL_SCHEMES and parts.hostname not in _LOCAL_HOSTS:
            self.external_requests.append(request.url[:200])
