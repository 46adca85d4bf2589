"""What can keep the live page from being served."""

from __future__ import annotations

from streamchar.errors import StreamcharError


class PageError(StreamcharError):
    """The page cannot be served."""

    code = "page"
    template = "the live page: {detail}"


class PageListenError(PageError):
    """The page's port cannot be opened."""

    code = "page_listen"
    template = "cannot listen on {host}:{port}: {detail} (dashboard.host, dashboard.port)"
