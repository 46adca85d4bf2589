"""Serves the live page: its files, the night as JSON, and a stream of events. Nothing can be changed through it."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from importlib import resources
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from aiohttp import web

from streamchar import __version__
from streamchar.dashboard import summaries
from streamchar.dashboard.errors import PageListenError
from streamchar.dashboard.feed import Feed, dump
from streamchar.dashboard.visits import Visit, Visits
from streamchar.frozen import frozen
from streamchar.image.access import Access, locate
from streamchar.image.errors import AccessError
from streamchar.monitor.listener import Listener
from streamchar.monitor.page_settings import DashboardSettings

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)
"""Sent with every answer."""

ENDPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "/": "the page",
        "/api": "this list",
        "/api/night": "the whole night: visits with the names of their columns, totals, latency, grade lights, reason "
        "codes, failures, focal planes, contact with Kafka, services",
        "/api/visits/{instrument}/{exposure}": "one visit: every detector with figures, reasons, products, PSF grid",
        "/api/thumbnails/{instrument}/{exposure}/{detector}": "the thumbnail of an exposure, where one is stored",
        "/api/events": "server-sent events: night (everything), update (what has changed), beat (nothing has); resumed "
        "with the header Last-Event-ID or the parameter last",
        "/livez": "200 while the page is served",
    }
)
"""What can be asked for, all with GET. Times are seconds since 1970 (UTC), null means not known."""

WRITE_SECONDS = 30.0
"""A page that takes nothing for so long is given up."""

THUMBNAIL = "thumbnail"
MAX_THUMBNAIL_BYTES = 2 << 20
_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_VERSION_MARK = b"@ASSETS@"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@frozen
class Asset:
    """A file of the page."""

    body: bytes
    content_type: str
    tag: str


class PageServer(Listener):
    """Serves the page on a port.

    Parameters
    ----------
    settings
        Where to listen and who may ask.
    visits, feed
        What to tell.
    """

    refused = PageListenError

    def __init__(self, settings: DashboardSettings, visits: Visits, feed: Feed) -> None:
        super().__init__(settings.host, settings.port)
        self._settings, self._visits, self._feed = settings, visits, feed
        self._assets, self._index = load_assets()
        self._names = {name.lower() for name in (*settings.names, settings.host, "localhost")}

    async def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        PageListenError
            The address is in use or may not be used.
        """
        application = web.Application(middlewares=[self._guard])
        application.on_shutdown.append(self._end_subscriptions)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/assets/{name}", self._asset),
                web.get("/api", self._list),
                web.get("/api/night", self._night),
                web.get("/api/visits/{instrument}/{exposure}", self._visit),
                web.get("/api/thumbnails/{instrument}/{exposure}/{detector}", self._thumbnail),
                web.get("/api/events", self._events, allow_head=False),
                web.get("/livez", self._live),
            ]
        )
        await self.listen(application)

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host  # noqa: S104
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    async def _end_subscriptions(self, _: web.Application) -> None:
        await self._feed.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests for names that are not ours, and send the same protection with every answer."""
        if not may_ask(request.host, self._names):
            response: web.StreamResponse = web.Response(
                status=421, text="this name is not served here; allow it with dashboard.names\n"
            )
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = error
        if not response.prepared:
            response.headers.update(HEADERS)
        if isinstance(response, web.HTTPException):
            raise response
        return response

    async def _page(self, request: web.Request) -> web.Response:
        return self._serve(request, self._index)

    async def _asset(self, request: web.Request) -> web.Response:
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        return self._serve(request, asset)

    def _serve(self, request: web.Request, asset: Asset) -> web.Response:
        headers = {"ETag": f'"{asset.tag}"', "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        response = web.Response(body=asset.body, headers={**headers, "Content-Type": asset.content_type})
        response.enable_compression()
        return response

    async def _list(self, _: web.Request) -> web.Response:
        return self._json(dump({"version": __version__, "endpoints": dict(ENDPOINTS)}))

    async def _night(self, _: web.Request) -> web.Response:
        return self._json(self._feed.night())

    async def _visit(self, request: web.Request) -> web.Response:
        visit = self._find(request)
        frames = list(summaries.frame_list(visit, self._visits))
        for frame in frames:
            frame["report"] = self._report(visit, frame)
            frame["thumbnail"] = any(
                product["name"] == THUMBNAIL and product["uri"] for product in frame["products"]
            ) and bool(self._settings.roots)
        return self._json(
            dump(
                {
                    "columns": summaries.VISIT_COLUMNS,
                    "visit": summaries.visit_row(visit),
                    "revision": visit.revision,
                    "detectors": self._feed.outlines_of(visit.key[0]),
                    "frames": frames,
                }
            )
        )

    def _report(self, visit: Visit, frame: Mapping[str, Any]) -> str | None:
        if not self._settings.report or frame["outcome"] == "waiting":
            return None
        return self._settings.report.format(
            instrument=quote(visit.key[0], safe=""),
            exposure=visit.key[1],
            detector=frame["detector"],
            event_id=quote(frame["event_id"], safe=""),
        )

    async def _thumbnail(self, request: web.Request) -> web.Response:
        visit = self._find(request)
        detail = visit.details.get(_whole(request.match_info["detector"]))
        uri = next(
            (product.uri for product in (detail.products if detail else ()) if product.product == THUMBNAIL),
            None,
        )
        if uri is None:
            raise web.HTTPNotFound
        try:
            body = await asyncio.to_thread(_read_image, uri, self._settings)
        except (AccessError, OSError) as error:
            raise web.HTTPNotFound from error
        kind = next((kind for magic, kind in _IMAGES.items() if body.startswith(magic)), None)
        if kind is None:
            raise web.HTTPNotFound
        return web.Response(body=body, headers={"Content-Type": kind, "Cache-Control": "private, max-age=60"})

    def _find(self, request: web.Request) -> Visit:
        visit = self._visits.get(request.match_info["instrument"], _whole(request.match_info["exposure"]))
        if visit is None:
            raise web.HTTPNotFound
        return visit

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._feed.pages >= self._settings.max_pages:
            raise web.HTTPServiceUnavailable(
                headers={"Retry-After": "30"}, text="too many open pages (dashboard.max_pages)\n"
            )
        response = web.StreamResponse(
            headers={
                **HEADERS,
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        last = request.headers.get("Last-Event-ID") or request.query.get("last", "")
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(b"retry: 2000\n\n")
            async with aclosing(self._feed.subscribe(last)) as events:
                async for text in events:
                    async with asyncio.timeout(WRITE_SECONDS):
                        await response.write(text.encode())
        except (ConnectionError, TimeoutError):
            pass  # the page is gone, and comes back by itself when it is not
        return response

    async def _live(self, _: web.Request) -> web.Response:
        return self._json(dump({"status": "ok"}))

    def _json(self, text: str) -> web.Response:
        response = web.Response(text=text, content_type="application/json")
        response.headers["Cache-Control"] = "no-store"
        response.enable_compression()
        return response


def may_ask(host: str, names: set[str]) -> bool:
    """Say whether a request for a host may be answered: addresses and the names given, with any port.

    A web site can give its own name our address, but it cannot make browsers ask for an address instead of the name.
    """
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        if rest and not rest.startswith(":"):
            return False
    else:
        name = host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and name.lower().rstrip(".") in names
    return True


def load_assets() -> tuple[dict[str, Asset], Asset]:
    """Read the files of the page; return them by name, and the page itself, which knows the version of its files."""
    files = {
        entry.name: entry.read_bytes()
        for entry in (resources.files("streamchar.dashboard") / "assets").iterdir()
        if not entry.name.startswith(("_", "."))
    }
    version = hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()[:16]
    assets = {
        name: Asset(body.replace(_VERSION_MARK, version.encode()), _content_type(name), version)
        for name, body in files.items()
    }
    index = assets.pop("index.html")
    return assets, index


def _content_type(name: str) -> str:
    if name.endswith(".js"):
        return "text/javascript; charset=utf-8"
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise web.HTTPNotFound
    return int(text)


def _read_image(uri: str, settings: DashboardSettings) -> bytes:
    return locate(uri, Access(roots=settings.roots, max_bytes=MAX_THUMBNAIL_BYTES)).read_bytes()
