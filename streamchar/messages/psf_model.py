"""The PSF model on the wire: basis images, how they vary over the detector, and how to evaluate them."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from streamchar.messages.base import (
    MAX_ELEMENTS,
    Count,
    Listed,
    Name,
    Outcome,
    ProductMessage,
    Provenance,
    Text,
    Value,
    unit,
)
from streamchar.messages.columns import ColumnBlock, check_total

Polynomial = Literal["monomial", "chebyshev"]


class PsfModel(ProductMessage):
    """A PSF model, or one of several messages that together carry a large one.

    Every message repeats the description and carries whole arrays, in one message or split along their first axis.
    The image at (x, y) is sum_i (sum_t coefficients[i, t] P_t(u, v)) basis[i], with u = (x - x_offset)/x_scale,
    v = (y - y_offset)/y_scale and P_t(u, v) = p_m(u) p_n(v) for (m, n) = (x_powers[t], y_powers[t]); without the
    array ``coefficients`` the t-th basis image goes with the t-th polynomial term.
    """

    topic_type: ClassVar[str] = "psf-model"

    message_type: Literal["psf-model"] = "psf-model"
    """Which message this is; also in the header ``ce_type``."""
    chunk: Annotated[Count, unit("1")] = 0
    """Number of the message, from 0."""
    chunks: Annotated[Count, unit("1", ge=1, le=MAX_ELEMENTS)] = 1
    """Number of messages of the model."""
    kind: Name
    """Which model, for example ``psfex``; says how ``parameters`` and ``arrays`` are to be read."""
    width: Annotated[Count, unit("pixel")]
    """Width of the PSF images on the detector's pixels, odd."""
    height: Annotated[Count, unit("pixel")]
    """Height of the PSF images on the detector's pixels, odd."""
    sampling: Annotated[float, unit("pixel", gt=0)] = 1.0
    """Step of the basis images: 0.5 means two samples per pixel."""
    resampling: Name = "none"
    """How basis images are brought to the detector's pixels, for example ``lanczos5``."""
    polynomial: Polynomial = "monomial"
    """Which polynomials p_m the spatial variation is written in."""
    x_offset: Annotated[float, unit("pixel")] = 0.0
    """Column at which u is zero."""
    x_scale: Annotated[float, unit("pixel")] = 1.0
    """Columns per unit of u."""
    y_offset: Annotated[float, unit("pixel")] = 0.0
    """Row at which v is zero."""
    y_scale: Annotated[float, unit("pixel")] = 1.0
    """Rows per unit of v."""
    x_powers: Annotated[Listed[Count], unit("1")] = (0,)
    """Order in u of each polynomial term."""
    y_powers: Annotated[Listed[Count], unit("1")] = (0,)
    """Order in v of each polynomial term."""
    average_x: Annotated[float | None, unit("pixel")] = None
    """Mean column of the stars."""
    average_y: Annotated[float | None, unit("pixel")] = None
    """Mean row of the stars."""
    image_width: Annotated[Count | None, unit("pixel")] = None
    """Width of the detector over which the model is valid."""
    image_height: Annotated[Count | None, unit("pixel")] = None
    """Height of the detector over which the model is valid."""
    fwhm: Annotated[float | None, unit("pixel", ge=0)] = None
    """Full width at half maximum at the centre of the detector."""
    n_stars: Annotated[Count | None, unit("1")] = None
    """Stars the model was fitted to."""
    chi2: Annotated[float | None, unit("1", ge=0)] = None
    """Reduced chi-square of the fit."""
    parameters: Annotated[dict[Name, Value], unit("1", max_length=256)] = Field(default_factory=dict)
    """Further parameters of the model by name, lengths in pixels of the detector."""
    recipe: Text = ""
    """How to evaluate the model, in words."""
    arrays: Listed[ColumnBlock] = ()
    """Arrays by name: ``basis`` (image, row, column), ``coefficients`` (image, term) and what the kind adds."""
    first_rows: Annotated[Listed[Count], unit("1")] = ()
    """For each of ``arrays`` the index along its first axis with which it begins; empty when all are whole."""
    outcome: Outcome | None = None
    """What became of the event this model belongs to: succeeded or degraded. Since version 1.1."""
    provenance: Provenance
    """What made this model."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.chunk >= self.chunks:
            raise ValueError(f"chunk {self.chunk} of {self.chunks}")
        if len(self.x_powers) != len(self.y_powers):
            raise ValueError("x_powers and y_powers differ in length")
        if self.first_rows and len(self.first_rows) != len(self.arrays):
            raise ValueError("first_rows and arrays differ in length")
        check_total(self.arrays)
        return self

    def _identifying_parts(self) -> tuple[int | str, ...]:
        return (self.chunk,)
