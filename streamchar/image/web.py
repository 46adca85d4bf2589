"""Files from web servers: asked of allowed hosts only, redirected within one host only, never more than the limit."""

from __future__ import annotations

import fnmatch
import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from streamchar.image.access import Access, Bounded, allowed_names, short
from streamchar.image.errors import (
    FileMissingError,
    FileUnreadableError,
    HostRefusedError,
    RedirectRefusedError,
    UnsupportedSchemeError,
)

if TYPE_CHECKING:
    from http.client import HTTPMessage

_CHUNK = 1 << 20
_MAX_REDIRECTS = 5
_MISSING = (404, 410)
_REDIRECTIONS = range(300, 400)
_PLAIN_HOST = "any host, by its plain name"
_PORTS = {"http": 80, "https": 443}


def copy_http(uri: str, parts: SplitResult, access: Access, target: Bounded) -> None:
    """Copy what an ``https://`` address leads to.

    Parameters
    ----------
    uri, parts
        The address.
    access
        Which hosts may be asked.
    target
        Where the bytes go, so many at most.

    Raises
    ------
    AccessError
        Says what is not allowed or did not work.
    """
    _allow_host(uri, parts, access)
    try:
        context = ssl.create_default_context() if parts.scheme == "https" else None
        opener = urllib.request.build_opener(
            _Redirects(uri, parts),
            *([urllib.request.HTTPSHandler(context=context)] if context else []),
        )
        request = urllib.request.Request(  # noqa: S310 - the scheme was verified
            uri.partition("#")[0], headers={"User-Agent": "streamchar", "Accept-Encoding": "identity"}
        )
        with opener.open(request, timeout=access.timeout) as response:
            _copy_response(uri, response, target)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in _MISSING:
                raise FileMissingError(uri=short(uri)) from error
            if error.code in _REDIRECTIONS:
                to = short(error.headers.get("Location", "nowhere"))
                raise RedirectRefusedError(
                    uri=short(uri), target=to, detail="its scheme is no https"
                ) from error
            raise FileUnreadableError(uri=short(uri), detail=f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise FileUnreadableError(uri=short(uri), detail=str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        detail = str(error) or type(error).__name__
        raise FileUnreadableError(uri=short(uri), detail=detail[:200]) from error


def _copy_response(uri: str, response: Any, target: Bounded) -> None:
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal():
        target.expect(int(announced))
    while chunk := response.read1(_CHUNK):
        target.write(chunk)
    if announced.isdecimal() and target.size < int(announced):
        detail = f"the connection ended after {target.size} of {announced} bytes"
        raise FileUnreadableError(uri=short(uri), detail=detail)


def _allow_host(uri: str, parts: SplitResult, access: Access) -> None:
    if parts.scheme == "http" and not access.plain_http:
        detail = "; http:// only with fetch.plain_http"
        raise UnsupportedSchemeError(uri=short(uri), scheme="http", detail=detail)
    try:
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise UnsupportedSchemeError(uri=short(uri), scheme=parts.scheme, detail=f" ({error})") from error
    doubtful = "@" in parts.netloc or any(character <= " " or character in "\\\x7f" for character in uri)
    usual = _PORTS[parts.scheme]
    names = [f"{host}:{port or usual}", *([host] if port in {None, usual} else [])]
    known = access.hosts is None or any(
        fnmatch.fnmatchcase(name, pattern.lower()) for pattern in access.hosts for name in names
    )
    if doubtful or not host or not known:
        raise HostRefusedError(
            uri=short(uri),
            host=short(parts.netloc),
            kind="hosts",
            allowed=allowed_names(access.hosts, _PLAIN_HOST),
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections within one host only, and never from https to http."""

    max_redirections = _MAX_REDIRECTS
    max_repeats = _MAX_REDIRECTS

    def __init__(self, uri: str, parts: SplitResult) -> None:
        self._uri, self._origin = short(uri), (parts.scheme, parts.netloc.lower())
        self._followed = 0

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        target = urlsplit(newurl)
        self._followed += 1
        detail = ""
        if (target.scheme, target.netloc.lower()) != self._origin:
            detail = "it leads to another host or scheme"
        elif self._followed > _MAX_REDIRECTS:
            detail = f"there were {_MAX_REDIRECTS} before it"
        if detail:
            fp.close()
            raise RedirectRefusedError(uri=self._uri, target=short(newurl), detail=detail)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
