"""The sky background: binned, modelled, subtracted (reference: background.md).

A background is fitted to the clipped means of a grid of bins, with a Chebyshev polynomial or by
interpolation. Models are residual corrections: each is fitted to, and subtracted from, what its
predecessors left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from math import ceil
from operator import add
from typing import Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from streamchar.characterize import statistics
from streamchar.characterize.base import Task
from streamchar.characterize.binning import Grid, bin_centres, bin_edges, bins_of
from streamchar.characterize.chebyshev import ChebyshevField, terms
from streamchar.characterize.errors import BackgroundFitError, TooFewBinsError, TooManyMaskedPixelsError
from streamchar.characterize.sky import Sky, SkyConfig, find_sky
from streamchar.characterize.splines import MIN_POINTS, InterpolationStyle, add_interpolated, best_style
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure

BINS_PER_TERM = 2
"""Bins needed for every term of a polynomial of higher order than configured."""

StatisticsProperty = Literal["meanclip", "mean", "median"]
UndersampleStyle = Literal["throw_exception", "reduce_interp_order", "increase_nxnysample"]


class BackgroundConfig(Configuration):
    """How a background is measured and modelled."""

    statistics_property: StatisticsProperty = "meanclip"
    """Value of a bin: clipped mean, mean or median."""

    undersample_style: UndersampleStyle = "reduce_interp_order"
    """With too few bins for the model: raise, lower its order, or make more bins."""

    mask_sources: bool = True
    """Find sources in the image and leave them out, instead of clipping the bins; statistics_property and
    do_filter_super_pixels then have no effect, and bins are weighted by the inverse squares of their errors.
    (The reference leaves out only what detection marked.)"""

    sky: SkyConfig = SkyConfig()
    """What a source is then."""

    bin_size: int = Field(128, gt=0)
    """Bin size in pixels, along both axes. Bins are equal to within a pixel, so they are this size or
    smaller."""

    bin_size_x: int = Field(0, ge=0)
    """Bin width in pixels; 0 takes bin_size."""

    bin_size_y: int = Field(0, ge=0)
    """Bin height in pixels; 0 takes bin_size."""

    algorithm: InterpolationStyle = "akima_spline"
    """Interpolation of the bins when use_approx is off."""

    ignored_pixel_mask: tuple[str, ...] = ("BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA")
    """Mask planes whose pixels are left out."""

    is_nan_safe: bool = False
    """Drop pixels that are not finite. They are dropped with either value: with False the reference's
    result is undefined."""

    use_approx: bool = True
    """Model the bins with a Chebyshev polynomial instead of interpolating them."""

    approx_order_x: int = Field(6, ge=0, le=30)
    """Largest total degree of the polynomial."""

    approx_order_y: int = Field(-1, ge=-1)
    """Must be -1 or equal to approx_order_x: there is one total degree."""

    weighting: bool = True
    """Weight each bin by the inverse of its error."""

    do_filter_super_pixels: bool = False
    """Median-filter the grid of bins before modelling it."""

    super_pixel_filter_size: int = Field(3, ge=1)
    """Width of that filter in bins."""

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.approx_order_y not in (-1, self.approx_order_x):
            raise ValueError(
                f"approx_order_y must be -1 or approx_order_x ({self.approx_order_x}), "
                f"not {self.approx_order_y}"
            )
        return self


@frozen(eq=False)
class BackgroundModel:
    """One background: the binned values and how they become a value for every pixel.

    Attributes
    ----------
    values, errors
        float32 (ny, nx): value and standard error of each bin, image units; NaN for a bin without usable
        pixels.
    width, height
        Size of the exposure in pixels.
    interpolation_style
        Interpolant of the bins, as used, when there is no polynomial.
    undersample_style
        What was asked for should there be too few bins.
    weighting
        Whether bins were weighted by their inverse errors.
    polynomial
        Chebyshev model, or ``None`` when the bins are interpolated.
    """

    values: NDArray[np.float32]
    errors: NDArray[np.float32]
    width: int
    height: int
    interpolation_style: InterpolationStyle
    undersample_style: UndersampleStyle
    weighting: bool
    polynomial: ChebyshevField | None

    @property
    def order(self) -> int | None:
        """Degree of the polynomial, or ``None``."""
        return None if self.polynomial is None else self.polynomial.order

    @property
    def sky_level(self) -> float:
        """Median of the finite bin values; NaN without any."""
        return statistics.median(self.values)

    @property
    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel positions of the bins' rows and columns, float64 (ny) and (nx)."""
        rows, columns = self.values.shape
        return bin_centres(bin_edges(self.height, rows)), bin_centres(bin_edges(self.width, columns))

    def add_to(self, plane: NDArray[np.float32], factor: float = 1.0) -> None:
        """Add ``factor`` times the model to a float32 plane (height, width), in place."""
        if self.polynomial is not None:
            self.polynomial.add_to(plane, factor)
        else:
            add_interpolated(plane, self.values, *self.centres, self.interpolation_style, factor)

    def image(self) -> NDArray[np.float32]:
        """The model on every pixel, float32 (height, width)."""
        plane = np.zeros((self.height, self.width), np.float32)
        self.add_to(plane)
        return plane

    def to_arrays(self) -> dict[str, Any]:
        """Return plain arrays, numbers and strings, from which :meth:`from_arrays` makes the model again.

        ``coefficients`` is float64 (order + 1, order + 1), empty without a polynomial.
        """
        return {
            "values": self.values,
            "errors": self.errors,
            "coefficients": np.zeros((0, 0)) if self.polynomial is None else self.polynomial.coefficients,
            "width": self.width,
            "height": self.height,
            "interpolation_style": self.interpolation_style,
            "undersample_style": self.undersample_style,
            "weighting": self.weighting,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Make a model from what :meth:`to_arrays` returned.

        Raises
        ------
        ValueError
            When shapes or names cannot be those of a model; a missing entry raises KeyError.
        """
        values = np.ascontiguousarray(arrays["values"], np.float32)
        errors = np.ascontiguousarray(arrays["errors"], np.float32)
        coefficients = np.ascontiguousarray(arrays["coefficients"], np.float64)
        width, height = int(arrays["width"]), int(arrays["height"])
        if values.ndim != 2 or values.shape != errors.shape or values.size == 0:
            raise ValueError(f"bin values of shape {values.shape} and errors of shape {errors.shape}")
        if values.shape[0] > height or values.shape[1] > width:
            raise ValueError(f"{values.shape} bins do not fit in {height} x {width} pixels")
        if coefficients.ndim != 2 or coefficients.shape[0] != coefficients.shape[1]:
            raise ValueError(f"coefficients of shape {coefficients.shape} are not square")
        return cls(
            values,
            errors,
            width,
            height,
            cast(InterpolationStyle, _one_of(arrays["interpolation_style"], InterpolationStyle)),
            cast(UndersampleStyle, _one_of(arrays["undersample_style"], UndersampleStyle)),
            bool(arrays["weighting"]),
            ChebyshevField(coefficients, width, height) if coefficients.size else None,
        )


def _one_of(name: Any, names: Any) -> str:
    known: tuple[str, ...] = get_args(names)
    if name not in known:
        raise ValueError(f"{name!r} is not one of {', '.join(known)}")
    return str(name)


class BackgroundList:
    """The backgrounds subtracted from an exposure, in order; their sum is what was subtracted.

    Parameters
    ----------
    models
        Models to begin with.
    """

    def __init__(self, models: Iterable[BackgroundModel] = ()) -> None:
        self._models: list[BackgroundModel] = list(models)

    @property
    def models(self) -> tuple[BackgroundModel, ...]:
        """The models in order."""
        return tuple(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __iter__(self) -> Iterator[BackgroundModel]:
        return iter(self.models)

    def __repr__(self) -> str:
        return f"BackgroundList({len(self)} models, sky level {self.sky_level:g})"

    def append(self, model: BackgroundModel) -> None:
        """Add a model that was subtracted."""
        if self._models and (model.height, model.width) != (self._models[0].height, self._models[0].width):
            raise ValueError(f"a background of {model.height} x {model.width} pixels does not belong here")
        self._models.append(model)

    @property
    def sky_level(self) -> float:
        """Sum of the models' medians of finite bin values, 0 without models (summary-stats.md section 4)."""
        return float(sum(model.sky_level for model in self._models))

    def image(self) -> NDArray[np.float32]:
        """Sum of all models on every pixel, float32 (height, width); ValueError for an empty list."""
        if not self._models:
            raise ValueError("an empty list of backgrounds has no image")
        plane = self._models[0].image()
        for model in self._models[1:]:
            model.add_to(plane)
        return plane

    def mean_and_variance(self) -> tuple[float, float]:
        """Mean and variance (n − 1) of the summed models over all pixels; NaN for an empty list.

        From the coefficients alone when all models are polynomials, else from the image.
        """
        if not self._models:
            return float("nan"), float("nan")
        polynomials = [model.polynomial for model in self._models if model.polynomial is not None]
        if len(polynomials) == len(self._models):
            return reduce(add, polynomials).mean_and_variance()
        described = statistics.moments(self.image())
        return described.mean, described.variance


def fit_background(
    image: NDArray[np.float32], mask: NDArray[np.int32], ignored_bits: int, config: BackgroundConfig
) -> BackgroundModel:
    """Measure the bins of an image and fit the configured model.

    Pixels that are not finite or have one of ``ignored_bits`` are left out; a bin without any other is NaN
    and takes no part. With undersample_style ``reduce_interp_order`` the polynomial's degree is lowered
    until the usable bins determine it (the reference solves a singular system there).

    Parameters
    ----------
    image, mask
        float32 and int32 (height, width).
    ignored_bits
        Mask bits of the ignored planes.
    config
        Bins, statistic and model.

    Raises
    ------
    TooManyMaskedPixelsError
        Every pixel is masked or not finite.
    TooFewBinsError
        Fewer bins than the model needs and the configuration forbids a simpler one.
    BackgroundFitError
        The usable bins do not determine the model.
    """
    height, width = image.shape
    ny, nx, order = _grid(height, width, config)
    style = _style(ny, nx, config)
    if config.mask_sources:
        sky = _sky(image, mask, ignored_bits, (ny, nx), order, config)
        values, errors, polynomial = sky.values, sky.errors, sky.field if config.use_approx else None
    else:
        values, errors = _measure(image, mask, ignored_bits, ny, nx, config)
        polynomial = (
            _fit_polynomial(values, errors, order, (height, width), config) if config.use_approx else None
        )
    if polynomial is None:
        _check_lines(values, style, config)
    return BackgroundModel(
        values.astype(np.float32),
        errors.astype(np.float32),
        width,
        height,
        style,
        config.undersample_style,
        config.weighting,
        polynomial,
    )


def _sky(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    ignored_bits: int,
    bins: tuple[int, int],
    order: int,
    config: BackgroundConfig,
) -> Sky:
    """Fit between the sources."""
    shape = (image.shape[0], image.shape[1])
    steps = (order + step for step in (config.sky.order_step, 2 * config.sky.order_step) if step)
    higher = [o for o in steps if o < min(bins) and BINS_PER_TERM * terms(o) <= bins[0] * bins[1]]

    def fit(values: Grid, errors: Grid, order: int) -> ChebyshevField:
        return _fit_polynomial(values, errors, order, shape, config, weight_power=2)

    sky = find_sky(
        np.ascontiguousarray(image),
        np.ascontiguousarray(mask),
        ignored_bits,
        bins,
        fit,
        [order, *higher],
        config.sky,
    )
    if sky is None:
        raise TooManyMaskedPixelsError(pixels=image.size, planes=", ".join(config.ignored_pixel_mask))
    return sky


def _grid(height: int, width: int, config: BackgroundConfig) -> tuple[int, int, int]:
    """Return rows and columns of bins and the polynomial's degree, after the rule for too few bins."""
    nx, ny = (
        min(length, ceil(length / (size or config.bin_size)))
        for length, size in ((width, config.bin_size_x), (height, config.bin_size_y))
    )
    order = config.approx_order_x
    if not config.use_approx or min(nx, ny) > order:
        return ny, nx, order
    if config.undersample_style == "reduce_interp_order" and order >= 1:
        return ny, nx, min(nx, ny) - 1
    if config.undersample_style == "increase_nxnysample" and min(width, height) >= order >= 1:
        size = min(width, height) // order
        return min(height, height // size + 1), min(width, width // size + 1), order
    raise TooFewBinsError(rows=ny, columns=nx, model=f"a polynomial of order {order}", needed=order + 1)


def _style(ny: int, nx: int, config: BackgroundConfig) -> InterpolationStyle:
    """Return the interpolant that the bins allow; checked for polynomials, too, as in the reference."""
    needed = MIN_POINTS[config.algorithm]
    if min(nx, ny) >= needed:
        return config.algorithm
    if config.undersample_style != "reduce_interp_order":
        raise TooFewBinsError(rows=ny, columns=nx, model=config.algorithm, needed=needed)
    return best_style(min(nx, ny))


def _measure(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bits: int,
    ny: int,
    nx: int,
    config: BackgroundConfig,
) -> tuple[Grid, Grid]:
    """Values of the bins, as configured, and their errors."""
    height, width = image.shape
    statistic = config.statistics_property
    found = statistics.bins(
        np.ascontiguousarray(image),
        np.ascontiguousarray(mask),
        bits,
        bin_edges(height, ny),
        bin_edges(width, nx),
        clip=statistic == "meanclip",
        with_median=statistic == "median",
    )
    if not found.usable.any():
        raise TooManyMaskedPixelsError(pixels=image.size, planes=", ".join(config.ignored_pixel_mask))
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.sqrt(np.maximum(found.variance, 0.0) / found.kept)
    values = found.mean
    if statistic == "median":
        # The error of a Gaussian's median is √(π/2) times that of its mean.
        values, errors = found.median, np.sqrt(np.pi / 2) * errors
    if config.do_filter_super_pixels:
        values = _filtered(values, config.super_pixel_filter_size)
    # The reference fits to bins of single precision, which the model keeps.
    return values.astype(np.float32).astype(np.float64), errors.astype(np.float32).astype(np.float64)


def _filtered(values: Grid, size: int) -> Grid:
    from scipy.ndimage import median_filter

    filled = np.where(np.isnan(values), np.nanmedian(values), values)
    return np.asarray(median_filter(filled, size=size, mode="reflect"))


def _check_lines(values: Grid, style: InterpolationStyle, config: BackgroundConfig) -> None:
    """Refuse a grid whose columns or rows have too few finite values, unless a simpler style may stand in."""
    if config.undersample_style == "reduce_interp_order":
        return
    good = np.isfinite(values)
    fewest = min(int(good.sum(axis=0).min()), int(good.any(axis=0).sum()))
    if fewest < MIN_POINTS[style]:
        raise BackgroundFitError(order=0, usable=int(good.sum()), bins=values.size)


def _fit_polynomial(
    values: Grid,
    errors: Grid,
    order: int,
    shape: tuple[int, int],
    config: BackgroundConfig,
    weight_power: int = 1,
) -> ChebyshevField:
    # The inverse of the error, not of its square, is what the reference's code does. A bin of equal pixels has
    # error 0 and is skipped, as there.
    with np.errstate(divide="ignore"):
        weights = errors**-weight_power if config.weighting else np.ones_like(values)
    bins = bins_of(shape, (values.shape[0], values.shape[1]), order)
    lowest = 0 if config.undersample_style == "reduce_interp_order" else order
    for degree in range(order, lowest - 1, -1):
        field, rank = bins.fit(values, weights, degree)
        if rank == terms(degree):
            return field
    raise BackgroundFitError(order=order, usable=int(np.isfinite(values + weights).sum()), bins=values.size)


class SubtractBackground(Task[BackgroundConfig]):
    """Fit the background of an exposure and subtract it."""

    config_class: ClassVar[type[Configuration]] = BackgroundConfig
    default_name: ClassVar[str] = "background"

    def run(
        self, exposure: Exposure, background: BackgroundList | None = None, *, statistics: bool = True
    ) -> BackgroundList:
        """Fit, subtract from the image in place, and append the model; mask and variance are untouched.

        Parameters
        ----------
        exposure
            Its image is modified; BGMEAN and BGVAR in its metadata grow by the mean and variance of the
            summed models.
        background
            What was subtracted before; a new list when omitted.
        statistics
            Whether the metadata are written.

        Returns
        -------
        BackgroundList
            The list given, or the new one, with the model appended.

        Raises
        ------
        UnknownMaskPlaneError
            When an ignored plane is not among the exposure's.
        TooManyMaskedPixelsError, TooFewBinsError, BackgroundFitError
            As in :func:`fit_background`; the exposure is then unchanged.
        """
        with self.timer("run"):
            backgrounds = BackgroundList() if background is None else background
            bits = exposure.bits(*self.config.ignored_pixel_mask)
            model = fit_background(exposure.image, exposure.mask, bits, self.config)
            backgrounds.append(model)
            model.add_to(exposure.image, -1.0)
            self.record("sky_level", model.sky_level)
            if statistics:
                mean, variance = backgrounds.mean_and_variance()
                exposure.metadata.setdefault("BGMEAN", []).append(mean)
                exposure.metadata.setdefault("BGVAR", []).append(variance)
        return backgrounds
