"""A small table beside a thumbnail, as HTML for notebooks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

from streamchar.image import preview

THUMBNAIL = 224
"""Longest side of a thumbnail, in pixels."""


def card(title: str, rows: Mapping[str, str], image: preview.Plane | None) -> str:
    """Return an HTML fragment that needs no style sheet; every text is escaped.

    Parameters
    ----------
    title
        Caption of the table.
    rows
        Values by name.
    image
        (height, width), drawn as a thumbnail; left out when it has no pixel or is no image.
    """
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    table = (
        f'<table style="margin:0"><caption style="text-align:left;caption-side:top;font-weight:600">{escape(title)}'
        f"</caption><tbody>{cells}</tbody></table>"
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:start">{_thumbnail(image, title)}{table}</div>'


def _thumbnail(image: preview.Plane | None, title: str) -> str:
    if image is None or image.ndim != 2 or not image.size:
        return ""
    data = base64.b64encode(preview.png(preview.gray(image, THUMBNAIL))).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escape("pixels of " + title)}" '
        f'style="max-width:{THUMBNAIL}px;image-rendering:pixelated">'
    )
