"""Identifiers that follow from what a message is about, so that a redelivery carries the same one."""

from __future__ import annotations

from uuid import UUID, uuid5

NAMESPACE = UUID("5d1f7c54-6b34-5d0e-9a38-0f1c6f0a7f11")
"""Namespace of all identifiers of version 1 of the contract."""


def event_key(instrument: str, exposure: int, detector: int) -> str:
    """Return the key of all messages of one exposure of one detector, ``instrument/exposure/detector``.

    >>> event_key("DemoCam", 42, 3)
    'DemoCam/42/3'
    """
    return f"{instrument}/{exposure}/{detector}"


def event_id(instrument: str, exposure: int, detector: int) -> str:
    """Return an identifier for the announcement of an exposure, for producers that have none of their own."""
    return _identifier(event_key(instrument, exposure, detector), "exposure-ready")


def position_id(topic: str, partition: int, offset: int) -> str:
    """Return an identifier for an event whose bytes do not tell one, from where it was read."""
    return _identifier(f"{topic}/{partition}/{offset}", "position")


def product_id(key: str, message_type: str, config_digest: str | None, *parts: int | str) -> str:
    """Return the identifier of a published message.

    Parameters
    ----------
    key
        What it is about, see :func:`event_key`.
    message_type
        For example ``"psf-quality"``.
    config_digest
        Digest of the configuration the product was made with: another configuration makes another product.
    *parts
        What else tells the message apart: the chunk number, or the event of a status and its position.

    Returns
    -------
    str
        A name-based UUID (version 5, RFC 9562) as text.
    """
    return _identifier(key, message_type, config_digest or "", *(str(part) for part in parts))


def _identifier(*names: str) -> str:
    return str(uuid5(NAMESPACE, "\n".join(names)))
