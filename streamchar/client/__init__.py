"""The downstream library: quality records, statuses, catalogues and PSF models from the topics, as typed objects."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from streamchar.client.errors import (
    AddressError,
    ForbiddenError,
    RefusedError,
    SubscriptionError,
    TopicsMissingError,
    UnreachableError,
)
from streamchar.client.subscription import (
    Product,
    ProductName,
    Subscription,
    SubscriptionOptions,
    SubscriptionWarning,
)
from streamchar.messages.catalog import Catalog
from streamchar.messages.exposure_status import ExposureStatus
from streamchar.messages.psf_conversion import PublishedPsf
from streamchar.messages.psf_quality import PsfQuality

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = [
    "AddressError",
    "Catalog",
    "ExposureStatus",
    "ForbiddenError",
    "Product",
    "ProductName",
    "PsfQuality",
    "PublishedPsf",
    "RefusedError",
    "Subscription",
    "SubscriptionError",
    "SubscriptionOptions",
    "SubscriptionWarning",
    "TopicsMissingError",
    "UnreachableError",
    "subscribe",
]


@overload
def subscribe(
    bootstrap: str = ..., *, products: Literal["quality"] = ..., **options: Unpack[SubscriptionOptions]
) -> Subscription[PsfQuality]: ...
@overload
def subscribe(
    bootstrap: str = ..., *, products: Literal["catalog"], **options: Unpack[SubscriptionOptions]
) -> Subscription[Catalog]: ...
@overload
def subscribe(
    bootstrap: str = ..., *, products: Literal["table"], **options: Unpack[SubscriptionOptions]
) -> Subscription[QTable]: ...
@overload
def subscribe(
    bootstrap: str = ..., *, products: Literal["psf"], **options: Unpack[SubscriptionOptions]
) -> Subscription[PublishedPsf]: ...
@overload
def subscribe(
    bootstrap: str = ..., *, products: Literal["status"], **options: Unpack[SubscriptionOptions]
) -> Subscription[ExposureStatus]: ...
@overload
def subscribe(
    bootstrap: str = ..., *, products: Collection[ProductName], **options: Unpack[SubscriptionOptions]
) -> Subscription[Product]: ...


def subscribe(
    bootstrap: str = "localhost:9092",
    *,
    products: ProductName | Collection[ProductName] = "quality",
    **options: Unpack[SubscriptionOptions],
) -> Subscription[Any]:
    """Subscribe to what streamchar publishes.

    Parameters
    ----------
    bootstrap
        Address of a broker, ``"host:port"``; several separated by commas.
    products
        One of these, or several:

        - ``"quality"``: one :class:`PsfQuality` for each exposure of each detector: seeing, ellipticity, sky, grade;
        - ``"catalog"``: its whole :class:`Catalog`, which converts to astropy, pandas, Arrow and files;
        - ``"table"``: the same as an astropy ``QTable`` with units;
        - ``"psf"``: its :class:`PublishedPsf`, which can be evaluated anywhere on the detector;
        - ``"status"``: one :class:`ExposureStatus` for each event, whatever happened.
    **options
        See :class:`Subscription`: ``group``, ``instrument``, ``band``, ``detector``, ``outcome``, ``from_beginning``
        and more.

    Returns
    -------
    Subscription
        To iterate over, with ``for`` or ``async for``.

    Raises
    ------
    AddressError
        ``bootstrap`` is no address.
    UnreachableError, RefusedError, ForbiddenError
        When the iteration begins: no broker answers, or it does not let us in.
    TopicsMissingError
        When the iteration begins, with ``stop_at_end``: a topic does not exist.

    Examples
    --------
    Print the seeing as it comes:

    >>> for quality in subscribe("localhost:9092"):  # doctest: +SKIP
    ...     print(quality.key, quality.seeing)

    Get every good catalogue of one camera exactly where you left off, as astropy tables:

    >>> async for table in subscribe(  # doctest: +SKIP
    ...     "localhost:9092", products="table", group="my-pipeline", instrument="DemoCam", outcome="succeeded"
    ... ):
    ...     bright = table[table["base_PsfFlux_instFlux"] > 1e4 * u.ct]

    Evaluate the PSF of detector 2 at one position, for all exposures since the beginning of the topic:

    >>> for psf in subscribe("localhost:9092", products="psf", detector=2, from_beginning=True):  # doctest: +SKIP
    ...     image = psf.kernel_images(512.0, 1024.0)[0]
    """
    names: tuple[ProductName, ...] = (products,) if isinstance(products, str) else tuple(products)
    return Subscription(bootstrap, products=names, **options)
