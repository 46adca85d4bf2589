"""HTML that cannot be broken by what is put into it: every text and every attribute is escaped."""

from __future__ import annotations

import html

VOID = frozenset({"img", "meta", "link", "input", "br"})
"""Elements without content."""


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escape a value, unless it is HTML already."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(*parts: object) -> Html:
    """Put parts one after the other, escaping those that are not HTML; ``None`` is left out."""
    return Html("".join(text(part) for part in parts if part is not None))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """Build an element.

    Parameters
    ----------
    name
        Of the element.
    *children
        Escaped unless they are HTML.
    **attributes
        Escaped. A trailing underscore is dropped (``class_``), others become hyphens; ``None`` and ``False`` leave an
        attribute out, ``True`` writes its name alone.

    Examples
    --------
    >>> element("a", "1 < 2", href='x"y', class_="far", data_kind="test", hidden=False)
    '<a href="x&quot;y" class="far" data-kind="test">1 &lt; 2</a>'
    """
    written = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        written.append(label if value is True else f'{label}="{html.escape(str(value))}"')
    opening = f"<{' '.join(written)}>"
    return Html(opening) if name in VOID else Html(f"{opening}{join(*children)}</{name}>")
