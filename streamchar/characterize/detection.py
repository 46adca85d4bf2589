"""Source detection: smooth, threshold, find peaks, grow, and re-estimate the background (reference: detection.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.background import (
    BackgroundConfig,
    BackgroundList,
    BackgroundModel,
    fit_background,
)
from streamchar.characterize.base import Task
from streamchar.characterize.confirmation import confirmed, doubtful_peaks, first_peaks, on_rim
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.growth import grow, growth_radius
from streamchar.characterize.peaks import find_footprints, flatten_peaks, with_significance
from streamchar.characterize.psf.simple import psf_sigma
from streamchar.characterize.smoothing import (
    Convolution,
    Workspace,
    convolution,
    gaussian_taps,
    kernel_width,
    smooth_at,
    spread,
)
from streamchar.characterize.splitting import SplittingConfig, split_by_peak
from streamchar.characterize.thresholds import (
    STATISTICAL_THRESHOLDS,
    Threshold,
    ThresholdType,
    make_threshold,
)
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure

Polarity = Literal["positive", "negative", "both"]

PLANES = ("EDGE", "DETECTED", "DETECTED_NEGATIVE")
"""Mask planes that detection writes."""


class DetectionConfig(Configuration):
    """Settings of :class:`DetectSources`."""

    min_pixels: int = Field(default=1, ge=0)
    """Fewest pixels of a footprint before growing."""
    isotropic_grow: bool = True
    """Grow by a disk rather than a diamond."""
    combined_grow: bool = True
    """Grow all footprints together and join those that touch."""
    n_sigma_to_grow: float = Field(default=2.4, ge=0)
    """Growth radius in PSF sigma; 0 for none."""
    return_original_footprints: bool = False
    """Give sources the footprints before growing; the mask is set for the grown ones in any case."""
    threshold_value: float = Field(default=5.0, ge=0)
    """Level of a footprint's pixels, in the unit of ``threshold_type``."""
    include_threshold_multiplier: float = Field(default=10.0, ge=0)
    """A footprint is kept when one pixel reaches this multiple of the level."""
    threshold_type: ThresholdType = "pixel_stdev"
    """Unit of the level: standard deviation of the pixel, of the image, variance of the image, or image units."""
    threshold_polarity: Polarity = "positive"
    """Which footprints become sources."""
    adjust_background: float = 0.0
    """Constant added to the re-estimated background, image units."""
    re_estimate_background: bool = False
    """Fit the background again with the detected pixels masked, and subtract it. (The reference must; a background fitted
    between the sources has nothing to gain.)"""
    do_temp_local_background: bool = False
    """Find the peaks of complex footprints on a locally flattened image."""
    do_temp_wide_background: bool = False
    """Detect on an image without its large-scale background."""
    n_peaks_max_simple: int = Field(default=1, ge=0)
    """Footprints with more peaks are complex."""
    n_sigma_for_kernel: float = Field(default=7.0, gt=0)
    """Full width of the smoothing kernel in PSF sigma."""
    stats_mask: tuple[str, ...] = ("BAD", "SAT", "EDGE", "NO_DATA")
    """Planes left out of image statistics."""
    exclude_mask_planes: tuple[str, ...] = ()
    """Planes whose pixels are set to zero before the threshold."""
    one_source_per_peak: bool = True
    """Split footprints so that every prominent peak above the threshold times ``include_threshold_multiplier`` becomes a
    source (the reference does not)."""
    splitting: SplittingConfig = SplittingConfig()
    """Which peaks are prominent."""
    do_confirm: bool = True
    """Drop sources that owe their peak to pixels of ``untrusted_mask_planes`` or have it on the rim of what is searched."""
    untrusted_mask_planes: tuple[str, ...] = ("BAD", "CR", "NO_DATA")
    """Planes whose pixels make no source; those unknown to the exposure are ignored."""
    min_confirmation: float = Field(default=0.7, ge=0)
    """What the other pixels' significance must reach, in units of the one that sources need."""
    background: BackgroundConfig = BackgroundConfig()
    """The re-estimated background."""
    temp_local_background: BackgroundConfig = BackgroundConfig(
        mask_sources=False, bin_size=64, use_approx=False
    )
    """The local background under complex footprints."""
    temp_wide_background: BackgroundConfig = BackgroundConfig(
        mask_sources=False,
        bin_size=512,
        use_approx=False,
        ignored_pixel_mask=("BAD", "EDGE", "NO_DATA"),
    )
    """The large-scale background."""


@frozen
class Detection:
    """What was detected.

    Attributes
    ----------
    footprints
        Positive footprints on the exposure, grown unless the originals were asked for; none for polarity ``negative``.
    negative_footprints
        Negative ones; none for polarity ``positive``.
    blended
        The positive footprints before they were split by peak and confirmed.
    positive_count, negative_count
        Footprints of either sign, also of the sign that is not returned.
    peak_count, negative_peak_count
        Their peaks.
    sigma
        Width of the PSF and of the smoothing kernel, pixels.
    kernel_width
        Full width of the kernel in pixels; 1 without smoothing.
    growth_radius
        Pixels.
    background
        Models subtracted by the re-estimation, none or one.
    factor
        Factor of the threshold to reach the configured one; always 1 here.
    """

    footprints: Footprints
    negative_footprints: Footprints
    blended: Footprints
    positive_count: int
    negative_count: int
    peak_count: int
    negative_peak_count: int
    sigma: float
    kernel_width: int
    growth_radius: int
    background: tuple[BackgroundModel, ...]
    factor: float = 1.0


class DetectSources(Task[DetectionConfig]):
    """Detect sources on an exposure, mark their pixels and subtract what the background gained by knowing them."""

    config_class = DetectionConfig
    default_name = "detection"

    def __init__(self, config: DetectionConfig | None = None, **place: Any) -> None:
        super().__init__(config, **place)
        self._workspace = Workspace()

    def run(
        self, exposure: Exposure, *, background: BackgroundList | None = None, do_smooth: bool = True
    ) -> Detection:
        """Detect sources.

        Parameters
        ----------
        exposure
            Needs a PSF. Its planes DETECTED and DETECTED_NEGATIVE are cleared and set again, EDGE is set where the
            smoothing kernel does not fit, and the re-estimated background is subtracted from the image, in place.
        background
            Receives the re-estimated background model.
        do_smooth
            Smooth with a Gaussian of the PSF's width; otherwise search the image as it is (without EDGE).

        Raises
        ------
        MissingPsfError, PsfWidthError
            Without a PSF of finite, positive width.
        SmoothingKernelError
            When the exposure is smaller than the kernel.
        UnknownMaskPlaneError
            When a configured plane does not exist.
        TooManyMaskedPixelsError
            When no pixel is left for a background.
        """
        with self.timer("run"):
            exposure.planes = exposure.planes.including(*PLANES)
            exposure.clear_planes("DETECTED", "DETECTED_NEGATIVE")
            sigma = psf_sigma(exposure.psf)
            width = kernel_width(sigma, self.config.n_sigma_for_kernel) if do_smooth else 1
            radius = growth_radius(sigma, self.config.n_sigma_to_grow)
            for name, value in (
                ("do_smooth", do_smooth),
                ("sigma", sigma),
                ("smoothing_kernel_width", width),
            ):
                self.record(name, value)
            self.record("n_grow", radius)

            with self._wide_background_removed(exposure):
                found, threshold = self._find(exposure, sigma, width)
                grown = tuple(self._grow(footprints, radius) for footprints in found)
                chosen = found if self.config.return_original_footprints else grown
                blended = chosen[0]
                if self.config.one_source_per_peak:
                    chosen = (self._split(chosen[0], exposure, sigma, width, threshold), chosen[1])
                if self.config.do_confirm:
                    kept = self._confirm(exposure, chosen[0], sigma, width)
                    self.record("unconfirmed", int(np.count_nonzero(~kept)))
                    chosen = (chosen[0].take(kept), chosen[1])
            self._workspace.clear()
            for footprints, plane in zip(grown, ("DETECTED", "DETECTED_NEGATIVE"), strict=True):
                footprints.set_bits(exposure.mask, exposure.bits(plane))
            models = self._re_estimate_background(exposure, background)
            positive, negative = self._apply_polarity(exposure, *chosen)
            return Detection(
                footprints=positive,
                negative_footprints=negative,
                blended=blended,
                positive_count=len(grown[0]),
                negative_count=len(grown[1]),
                peak_count=len(grown[0].peak_x),
                negative_peak_count=len(grown[1].peak_x),
                sigma=sigma,
                kernel_width=width,
                growth_radius=radius,
                background=models,
            )

    def _find(
        self, exposure: Exposure, sigma: float, width: int
    ) -> tuple[tuple[Footprints, Footprints], Threshold]:
        """Footprints before growing, positive and negative, on the exposure, with final peaks; and the threshold."""
        smoothed = self._smooth(exposure, sigma, width)
        threshold = self._threshold(exposure, smoothed)
        both = self.config.re_estimate_background or self.config.threshold_polarity != "positive"
        found = find_footprints(
            smoothed,
            threshold,
            self.config.include_threshold_multiplier,
            self.config.min_pixels,
            negative=both,
        )
        if self.config.do_temp_local_background:
            found = self._flatten(exposure, smoothed, threshold, found)
        border = smoothed.border
        above, below = (
            with_significance(footprints, smoothed, threshold, negative=is_pit).placed(
                border, border, exposure.shape
            )
            for footprints, is_pit in zip(found, (False, True), strict=True)
        )
        return (above, below), threshold

    def _smooth(self, exposure: Exposure, sigma: float, width: int) -> Convolution:
        border = width // 2
        smoothed = convolution(exposure.image, exposure.variance, sigma, width)
        if border:
            edge = exposure.bits("EDGE")
            for strip in (np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]):
                exposure.mask[strip] |= edge
        if self.config.exclude_mask_planes:
            image = smoothed.in_memory(self._workspace).image
            excluded = _under_kernel(exposure, self.config.exclude_mask_planes, border)
            smoothed = smoothed.of_image(np.where(excluded, np.float32(0), image))
        return smoothed.in_memory(self._workspace) if self._needs_statistics else smoothed

    @property
    def _needs_statistics(self) -> bool:
        return self.config.threshold_type in STATISTICAL_THRESHOLDS

    def _threshold(
        self, exposure: Exposure, smoothed: Convolution, level: NDArray[np.float32] | None = None
    ) -> Threshold:
        """The threshold of the smoothed image, less the level when it is given."""
        kind, image = self.config.threshold_type, None
        if self._needs_statistics:
            image = smoothed.image if level is None else smoothed.image - level
        ignored = (
            _under_kernel(exposure, self.config.stats_mask, smoothed.border) if kind == "stdev" else None
        )
        return make_threshold(kind, self.config.threshold_value, image, ignored)

    def _flatten(
        self,
        exposure: Exposure,
        smoothed: Convolution,
        threshold: Threshold,
        found: tuple[Footprints, Footprints],
    ) -> tuple[Footprints, Footprints]:
        """Find the peaks of complex footprints anew above the local background."""
        max_simple = self.config.n_peaks_max_simple
        if not any((footprints.peak_count > max_simple).any() for footprints in found):
            return found
        level = self._workspace.plane("level", exposure.shape)
        level[...] = 0.0
        _fit(exposure, self.config.temp_local_background).add_to(level)
        if self._needs_statistics:
            height, width = smoothed.shape
            inner = level[smoothed.border :, smoothed.border :][:height, :width]
            threshold = self._threshold(exposure, smoothed, inner)
        above, below = (
            flatten_peaks(
                footprints,
                smoothed,
                level,
                threshold,
                self.config.include_threshold_multiplier,
                self.config.min_pixels,
                negative=is_pit,
                max_simple=max_simple,
            )
            for footprints, is_pit in zip(found, (False, True), strict=True)
        )
        return above, below

    def _grow(self, footprints: Footprints, radius: int) -> Footprints:
        return grow(
            footprints, radius, isotropic=self.config.isotropic_grow, combined=self.config.combined_grow
        )

    def _split(
        self, footprints: Footprints, exposure: Exposure, sigma: float, width: int, threshold: Threshold
    ) -> Footprints:
        """One footprint per prominent peak that is bright enough to be kept.

        Values and significances are those of the matched filter.
        """
        border = width // 2
        fine_sigma = self.config.splitting.smoothing * sigma
        fine_width = min(kernel_width(fine_sigma, self.config.n_sigma_for_kernel), width)
        fine = convolution(exposure.image, exposure.variance, fine_sigma, fine_width, border)
        parts, whole = split_by_peak(footprints, fine, self.config.splitting)
        taps = gaussian_taps(sigma, width)
        value = smooth_at(exposure.image, parts.peak_x, parts.peak_y, taps)
        variance = smooth_at(exposure.variance, parts.peak_x, parts.peak_y, taps**2)
        significance = threshold.significance(value, variance)
        kept = threshold.reached(value, variance, self.config.include_threshold_multiplier)
        # The brightest part is what the footprint was kept for, though its summit need not be that of the matched filter.
        brightest = np.searchsorted(whole, np.arange(len(footprints)))
        kept[brightest] = True
        for of_parts, of_peaks in (
            (value, footprints.peak_value),
            (significance, footprints.peak_significance),
        ):
            if len(brightest):
                of_whole = np.maximum.reduceat(of_peaks, footprints.peak_start[:-1])
                of_parts[brightest] = np.maximum(of_parts[brightest], of_whole)
        parts = parts.with_peaks(parts.peak_x, parts.peak_y, value, parts.peak_start, significance)
        return parts.take(kept)

    def confirm(self, exposure: Exposure, footprints: Footprints) -> NDArray[np.bool_]:
        """Whether each source is one without its untrusted pixels, bool (n).

        Not when its first peak has untrusted pixels close by and the others alone do not reach what a source needs, and not
        when the peak lies on the rim of the searched pixels. Thresholds that do not know the noise of pixels judge the rim
        only. May be asked again when cosmic rays are known better.

        Parameters
        ----------
        exposure
            Background subtracted, with a PSF.
        footprints
            Sources on it.

        Raises
        ------
        MissingPsfError, PsfWidthError
            Without a PSF of finite, positive width.
        """
        sigma = psf_sigma(exposure.psf)
        return self._confirm(exposure, footprints, sigma, kernel_width(sigma, self.config.n_sigma_for_kernel))

    def _confirm(
        self, exposure: Exposure, footprints: Footprints, sigma: float, width: int
    ) -> NDArray[np.bool_]:
        kept = ~on_rim(footprints, width // 2)
        bits = exposure.present_bits(*self.config.untrusted_mask_planes)
        if not bits or self.config.threshold_type != "pixel_stdev":
            return kept
        doubtful = doubtful_peaks(exposure, footprints, bits)
        if not len(doubtful):
            return kept
        x, y = (pixel[doubtful] for pixel in first_peaks(footprints))
        needed = self.config.threshold_value * self.config.include_threshold_multiplier
        least = self.config.min_confirmation * needed
        kept[doubtful] &= confirmed(exposure, x, y, gaussian_taps(sigma, width), bits, least, sigma)
        return kept

    def _re_estimate_background(
        self, exposure: Exposure, background: BackgroundList | None
    ) -> tuple[BackgroundModel, ...]:
        if not self.config.re_estimate_background:
            return ()
        model = _raised(_fit(exposure, self.config.background), self.config.adjust_background)
        model.add_to(exposure.image, -1.0)
        if background is not None:
            background.append(model)
        return (model,)

    def _apply_polarity(
        self, exposure: Exposure, positive: Footprints, negative: Footprints
    ) -> tuple[Footprints, Footprints]:
        """Drop the footprints of the sign that is not wanted, in the mask too."""
        if self.config.threshold_polarity == "positive":
            if len(negative):
                exposure.clear_planes("DETECTED_NEGATIVE")
            return positive, Footprints.empty(exposure.shape)
        if self.config.threshold_polarity == "negative":
            exposure.clear_planes("DETECTED")
            return Footprints.empty(exposure.shape), negative
        return positive, negative

    @contextmanager
    def _wide_background_removed(self, exposure: Exposure) -> Iterator[None]:
        """Take the large-scale background away while detecting.

        The image comes back before the background is re-estimated, so that what is subtracted then stays subtracted
        (the reference restores it afterwards and loses the subtraction while its list of models keeps it).
        """
        if not self.config.do_temp_wide_background:
            yield
            return
        original = exposure.image.copy()
        _fit(exposure, self.config.temp_wide_background).add_to(exposure.image, -1.0)
        empty = (exposure.mask & exposure.bits("NO_DATA")) != 0
        if empty.any():
            usable = ~empty & ((exposure.mask & exposure.bits(*self.config.stats_mask)) == 0)
            exposure.image[empty] = np.median(exposure.image[usable]) if usable.any() else 0.0
        try:
            yield
        finally:
            exposure.image[...] = original


def _fit(exposure: Exposure, config: BackgroundConfig) -> BackgroundModel:
    ignored = exposure.bits(*config.ignored_pixel_mask)
    return fit_background(exposure.image, exposure.mask, ignored, config)


def _raised(model: BackgroundModel, amount: float) -> BackgroundModel:
    """The model plus a constant."""
    if amount == 0.0:
        return model
    polynomial = model.polynomial
    if polynomial is not None:
        coefficients = polynomial.coefficients.copy()
        coefficients[0, 0] += amount
        polynomial = replace(polynomial, coefficients=coefficients)
    return replace(model, values=model.values + np.float32(amount), polynomial=polynomial)


def _under_kernel(exposure: Exposure, planes: tuple[str, ...], border: int) -> NDArray[np.bool_]:
    """Smoothed pixels whose kernel touches a pixel with one of the planes."""
    return spread((exposure.mask & exposure.bits(*planes)) != 0, border)
