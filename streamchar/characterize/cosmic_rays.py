"""Finding cosmic rays: pixels sharper than the PSF allows (reference: repair.md section 3)."""

from __future__ import annotations

from dataclasses import field, replace
from functools import lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize import statistics
from streamchar.characterize.background import BackgroundConfig, fit_background
from streamchar.characterize.bright_peaks import BrightPeaks, find_bright_peaks
from streamchar.characterize.cosmic_spots import SpotLimits, Spots, find_spots
from streamchar.characterize.errors import TooManyCosmicRaysError
from streamchar.characterize.exposure_parts import ExposureParts
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.reasons import Reason
from streamchar.characterize.star_loss import (
    PointLikePeaks,
    RoundPeaks,
    StarLoss,
    core,
    core_width,
    find_round_peaks,
)
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure, Psf
from streamchar.image.psf import cut_middle
from streamchar.kernels import clear_bits, clear_spans, cosmic_ray_candidates, find_cosmic_rays

BAD_PLANES = ("BAD", "INTRP", "SAT", "NO_DATA")
"""Planes whose pixels are never cosmic rays, nor used to replace one."""

STEPPED_BACK = "cosmic_ray_finder_stepped_back"
"""Reason code: star cores were taken for cosmic rays, and the finder was made less sensitive."""

_PART = 512
"""Pixels, about, along the side of the parts of the exposure for which the PSF is evaluated anew."""

_LEVEL_SAMPLE = 1 << 16
"""Pixels, to a factor of four, from which the sky level is taken."""

_STEPS_BY_PAIRS = 2
"""Steps back after which pairs, whose thresholds heed the width of the stars from the start, are left out, too."""


class CosmicRayConfig(Configuration):
    """How cosmic rays are found.

    Some defaults are not the reference's. Three (150, 2.0, 0.35) make the test by nearest neighbours more
    sensitive. Pixels with a bad plane are no evidence: next to a dead column every pixel is sharp. And pixels
    are compared with pairs further away, by the PSF at their place, which sees hits that are two or three pixels
    wide and hits on stars, and follows both to their ends.
    """

    n_cr_pixel_max: int = Field(1_000_000, ge=0)
    """Give up beyond this many cosmic-ray pixels."""

    min_sigma: float = 6.0
    """Height above the mean of opposite neighbours, in standard deviations; negative: minus the least pixel
    value."""

    min_dn: float = 100.0
    """Least sum of a cosmic ray above the background, image units."""

    cond3_fac: float = Field(1.0, ge=0)
    """Allowance for noise in the test of sharpness, in standard deviations."""

    cond3_fac2: float = Field(0.30, ge=0)
    """Scale of the PSF in the test of sharpness: larger finds more cosmic rays, and eats stars sooner."""

    niteration: int = Field(6, ge=0)
    """Passes in which found cosmic rays grow."""

    keep_crs: bool = False
    """Only set mask bits, and leave the pixels alone."""

    background: BackgroundConfig = BackgroundConfig(
        mask_sources=False, statistics_property="median", bin_size=100_000, use_approx=False
    )
    """Background below the cosmic rays; with bins larger than the exposure, the median of its pixels."""

    judge_by_bad_pixels: bool = False
    """Compare pixels with neighbours that have a bad plane, and look for cosmic rays beside saturated pixels,
    as the reference does."""

    min_width: float = Field(0.9, ge=0, le=1)
    """Width of the sharpest source in units of the PSF's: what is narrower is a cosmic ray, by any pair of
    pixels on opposite sides; 0: only by nearest neighbours, with the growth of the reference."""

    pair_reach: float = Field(4.2, ge=1)
    """Largest distance of a pair's pixels from the one they judge, pixels."""

    seed_reach: float = Field(2.3, ge=1)
    """The same where no cosmic ray is known to be near: further pairs find no more, and cost time."""

    pair_significance: float = Field(5.0, ge=0)
    """How much too high a pixel is above a pair to be taken for a cosmic ray, in standard deviations of that
    difference: a crowded exposure holds a million pairs, and chance must not make a star of them a cosmic ray."""

    growth_sigma: float = Field(3.5, ge=0)
    """Height above the background of the pixels by which cosmic rays grow, in standard deviations."""

    growth_significance: float = Field(1.5, ge=0)
    """How much too high they are above a pair, in standard deviations of that difference."""

    replaced_pair_factor: float = Field(0.7, ge=0, le=1)
    """Factor on what is expected of a pair with a pixel replaced before: the replacement may be too low."""

    spot_sigma: float = Field(5.5, ge=0)
    """Least height of the peaks that are compared with the PSF at its best place, in standard deviations of the
    sky: compact hits of two by two pixels, which no pair of pixels betrays. None where pairs do not judge."""

    spot_improvement: float = Field(10.0, ge=0)
    """By how much a spot a pixel wide must lower chi-square more than the best star does; 0: no such comparison."""

    max_star_loss: float | None = Field(0.05, ge=0, le=1)
    """Step back when more than this fraction of the bright point-like peaks carry a cosmic-ray pixel; none:
    never."""

    star_loss_min_peaks: int = Field(10, ge=1)
    """Point-like peaks of one width needed to judge."""

    star_loss_min_share: float = Field(0.2, ge=0, le=1)
    """Step back only when such peaks are more than this fraction of the cosmic rays found; of real ones
    about 0.05 look like stars."""

    star_loss_min_significance: float = Field(40.0, gt=0)
    """Height of the peaks that are judged, in standard deviations of the sky."""

    step_back_factor: float = Field(0.7, gt=0, lt=1)
    """Factor on cond3_fac2 for each step back."""

    step_back_limit: int = Field(5, ge=0)
    """Steps back at most."""


@frozen(eq=False)
class SearchBasis:
    """What all searches of the same pixels share: it follows from image, variance and ``BAD_PLANES`` alone.

    Attributes
    ----------
    image
        float32 (height, width): less its background where that has structure, else the exposure's own.
    level
        Background of ``image``.
    candidates
        int64 (n), ascending: flat indices of the pixels that may be cosmic rays.
    bright_peaks
        Its peaks that may be compact hits; none when nothing asks for them.
    round_peaks
        Its peaks that may be stars; likewise.
    """

    image: NDArray[np.float32]
    level: float
    candidates: NDArray[np.int64]
    bright_peaks: BrightPeaks
    round_peaks: RoundPeaks

    @classmethod
    def of(cls, exposure: Exposure, config: CosmicRayConfig) -> SearchBasis:
        """Look at all pixels of an exposure."""
        image, level = _flattened(exposure, config.background)
        bright = BrightPeaks.none()
        if config.max_star_loss is not None or config.min_width > 0:
            faintest = min(config.spot_sigma, config.star_loss_min_significance)
            bright = find_bright_peaks(image, exposure.variance, background=level, min_significance=faintest)
        return cls(
            image,
            level,
            cosmic_ray_candidates(image, exposure.variance, config.min_sigma),
            bright.above(config.spot_sigma),
            find_round_peaks(
                bright.above(config.star_loss_min_significance),
                exposure.mask,
                background=level,
                bad_bits=exposure.present_bits(*BAD_PLANES),
            ),
        )


@frozen(eq=False)
class CosmicRays:
    """What the finder found: footprints as row spans, and how it judged itself.

    Attributes
    ----------
    y, x0, x1
        int32 (spans): row, first and last column (inclusive).
    start
        int64 (n + 1): the spans of footprint i are ``start[i]:start[i + 1]``.
    pixels
        Number of pixels in the union of the footprints.
    background
        Level above which they were sought, image units.
    star_loss
        Bright point-like peaks, and those that carry a cosmic-ray pixel.
    cond3_fac2
        Scale of the PSF in the test of sharpness, as used.
    min_width
        Width of the sharpest source in units of the PSF's, as used; NaN when only nearest neighbours judged.
    steps_back
        How often it was lowered.
    reasons
        Why the result is degraded, empty when it is not.
    basis
        Of the pixels as they were then, for further searches of the same.
    """

    y: NDArray[np.int32]
    x0: NDArray[np.int32]
    x1: NDArray[np.int32]
    start: NDArray[np.int64]
    pixels: int
    background: float = float("nan")
    star_loss: StarLoss = field(default_factory=StarLoss)
    cond3_fac2: float = float("nan")
    min_width: float = float("nan")
    steps_back: int = 0
    reasons: tuple[Reason, ...] = ()
    basis: SearchBasis | None = None

    @classmethod
    def none(cls) -> CosmicRays:
        """No cosmic ray."""
        empty = np.empty(0, np.int32)
        return cls(empty, empty, empty, np.zeros(1, np.int64), 0)

    @property
    def count(self) -> int:
        """Number of footprints."""
        return len(self.start) - 1

    def __repr__(self) -> str:
        loss = f"{self.star_loss.fraction:.1%}"
        return f"CosmicRays({self.count} footprints, {self.pixels} pixels, star loss {loss})"


@frozen
class SharpnessThresholds:
    """Largest ratios of the mean of two opposite neighbours to the peak that betray a cosmic ray.

    Attributes
    ----------
    horizontal, vertical, diagonal
        By the direction of the neighbours.
    """

    horizontal: float
    vertical: float
    diagonal: float

    @classmethod
    def of(cls, kernel: NDArray[np.float64], scale: float) -> SharpnessThresholds:
        """Take them from a PSF image (odd sides) centred on its middle pixel, times ``scale``."""
        p = core(kernel)
        return cls(
            float(scale * 0.5 * (p[1, 0] + p[1, 2])),
            float(scale * 0.5 * (p[0, 1] + p[2, 1])),
            float(scale * 0.25 * (p[0, 0] + p[0, 2] + p[2, 0] + p[2, 2])),
        )


@frozen(eq=False)
class PairRatios:
    """What the mean of two pixels on opposite sides of a star's centre is, in units of the pixel there.

    Attributes
    ----------
    offsets
        int32 (n, 2): from the pixel between to one of the two, rows and columns.
    ratios
        float64 (rows, columns, n): for stars in the middle of rows x columns equal parts of the exposure.
    """

    offsets: NDArray[np.int32]
    ratios: NDArray[np.float64]

    @classmethod
    def of(cls, psf: Psf, shape: tuple[int, int], reach: float) -> PairRatios:
        """Take them from the PSF over an exposure of ``shape`` for all pairs up to ``reach`` pixels away."""
        offsets = _offsets_within(reach)
        parts = ExposureParts.of(shape, _PART)
        far = int(reach)
        kernels = cut_middle(psf.kernel_images(parts.x, parts.y), far)
        dy, dx = offsets.T
        pairs = 0.5 * (kernels[:, far + dy, far + dx] + kernels[:, far - dy, far - dx])
        ratios = np.maximum(pairs / kernels[:, far, far, None], 0.0)
        return cls(offsets, ratios.reshape(*parts.shape, len(offsets)))

    @classmethod
    def none(cls) -> PairRatios:
        """No pair."""
        return cls(np.empty((0, 2), np.int32), np.empty((1, 1, 0)))

    def thresholds(self, width: float) -> NDArray[np.float64]:
        """Ratios for stars of ``width`` (more than 0) in units of the PSF's: a Gaussian's ratio exp(-d²/2σ²) scales as a power."""
        return np.asarray(self.ratios ** (1.0 / width**2))


@lru_cache(maxsize=8)
def _offsets_within(reach: float) -> NDArray[np.int32]:
    """One of the two pixels of every pair up to ``reach`` from the pixel between them: (n, 2), read-only."""
    far = int(reach)
    rows, columns = np.mgrid[0 : far + 1, -far : far + 1]
    chosen = ((rows > 0) | (columns > 0)) & (np.hypot(rows, columns) <= reach)
    offsets = np.stack([rows[chosen], columns[chosen]], axis=-1).astype(np.int32)
    offsets.flags.writeable = False
    return offsets


def find(exposure: Exposure, config: CosmicRayConfig, before: CosmicRays | None = None) -> CosmicRays:
    """Find cosmic rays and set the mask plane CR, clearing it first; pixel values stay as they are.

    Pixels on the border are not tested. NaN is never a cosmic ray; next to NaN the other directions decide.

    Parameters
    ----------
    exposure
        With a PSF; its mask is modified. When stars are narrower than it says, or when it is analytic and there
        are no stars to tell, only so much is expected of it.
    config
        Thresholds.
    before
        What an earlier search with the same thresholds found, when neither image and variance nor the planes CR and
        ``BAD_PLANES`` have changed since.

    Raises
    ------
    TooManyCosmicRaysError
        More pixels than the configured limit; no pixel then carries CR.
    """
    exposure.planes = exposure.planes.including("CR")
    basis = None if before is None else before.basis
    if before is None or basis is None:
        clear_bits(exposure.mask, exposure.bits("CR"))
        basis = SearchBasis.of(exposure, config)
    else:
        clear_spans(exposure.mask, before.y, before.x0, before.x1, exposure.bits("CR"))
    search = _Search.of(exposure, config, basis)
    return _step_back(search, search.find(config.cond3_fac2))


@frozen(eq=False)
class _Search:
    """One exposure made ready for any number of passes with different sensitivity."""

    exposure: Exposure
    config: CosmicRayConfig
    basis: SearchBasis
    kernel: NDArray[np.float64]
    peaks: PointLikePeaks
    pairs: PairRatios
    width: float

    @classmethod
    def of(cls, exposure: Exposure, config: CosmicRayConfig, basis: SearchBasis) -> _Search:
        psf = exposure.psf
        assert psf is not None
        kernel = psf.kernel_images(*psf.average_position)[0]
        psf_sigma = core_width(kernel)
        peaks = basis.round_peaks.point_like(psf_sigma)
        width = _narrowest(psf, psf_sigma, peaks, config)
        pairs = PairRatios.none()
        if np.isfinite(width):
            pairs = PairRatios.of(psf, exposure.shape, config.pair_reach)
        return cls(exposure, config, basis, kernel, peaks, pairs, width)

    @property
    def bit(self) -> int:
        return self.exposure.bits("CR")

    def find(self, scale: float, *, by_pairs: bool = True) -> CosmicRays:
        """Find with the thresholds of the nearest neighbours scaled, and by pairs further away or without."""
        exposure, config, basis = self.exposure, self.config, self.basis
        nearest = SharpnessThresholds.of(self.kernel, scale)
        pairs = self.pairs if by_pairs else PairRatios.none()
        width = self.width if by_pairs else float("nan")
        by_bad = config.judge_by_bad_pixels
        complete, pixels, y, x0, x1, start = find_cosmic_rays(
            basis.image,
            exposure.mask,
            exposure.variance,
            basis.level,
            nearest.horizontal,
            nearest.vertical,
            nearest.diagonal,
            config.min_sigma,
            config.cond3_fac,
            config.min_dn,
            config.niteration,
            config.n_cr_pixel_max,
            exposure.present_bits(*BAD_PLANES),
            exposure.present_bits(*(("INTRP",) if by_bad else ("INTRP", "SAT"))),
            0 if by_bad else exposure.present_bits(*BAD_PLANES),
            self.bit,
            pairs.offsets,
            pairs.thresholds(width),
            config.seed_reach,
            config.pair_significance,
            config.growth_sigma,
            config.growth_significance,
            config.replaced_pair_factor,
            basis.candidates,
        )
        if not complete:
            raise TooManyCosmicRaysError(count=pixels, limit=config.n_cr_pixel_max)
        spots = self._find_spots(width)
        pixels += spots.pixels
        if pixels > config.n_cr_pixel_max:
            clear_bits(exposure.mask, self.bit)
            raise TooManyCosmicRaysError(count=pixels, limit=config.n_cr_pixel_max)
        if spots.pixels:
            exposure.mask[spots.y, spots.x] |= self.bit
            # One span for each pixel: a spot has four or so.
            y, x0, x1 = (np.concatenate(both) for both in ((y, spots.y), (x0, spots.x), (x1, spots.x)))
            start = np.concatenate([start, start[-1] + spots.start[1:]])
        loss = self.peaks.loss(exposure.mask, self.bit)
        return CosmicRays(y, x0, x1, start, pixels, basis.level, loss, scale, width, basis=basis)

    def _find_spots(self, width: float) -> Spots:
        """Find compact hits without CR; none where pairs do not judge."""
        exposure, config = self.exposure, self.config
        if not (np.isfinite(width) and config.spot_improvement > 0):
            return Spots.none()
        assert exposure.psf is not None
        return find_spots(
            self.basis.bright_peaks,
            exposure.mask,
            exposure.variance,
            exposure.psf,
            level=self.basis.level,
            excluded=exposure.present_bits(*BAD_PLANES) | self.bit,
            limits=SpotLimits(
                improvement=config.spot_improvement,
                width=width,
                growth=config.growth_sigma,
                counts=config.min_dn,
            ),
        )


def _narrowest(psf: Psf, psf_sigma: float, peaks: PointLikePeaks, config: CosmicRayConfig) -> float:
    """Width of the sharpest source in units of the PSF's; NaN when pairs are not to judge."""
    if config.min_width == 0:
        return float("nan")
    if peaks.count >= config.star_loss_min_peaks:
        return config.min_width * min(1.0, peaks.sigma / psf_sigma)
    return float("nan") if isinstance(psf, GaussianPsf) else config.min_width


def _step_back(search: _Search, found: CosmicRays) -> CosmicRays:
    """Repeat with lower thresholds while too many star cores are taken, and without pairs when that is no cure."""
    config, first = search.config, found.star_loss
    steps = 0
    while steps < config.step_back_limit and _takes_stars(found, config, begun=steps > 0):
        steps += 1
        clear_bits(search.exposure.mask, search.bit)
        scale = config.cond3_fac2 * config.step_back_factor**steps
        found = search.find(scale, by_pairs=steps <= _STEPS_BY_PAIRS)
    if steps == 0:
        return found
    loss = found.star_loss
    reason = Reason(
        STEPPED_BACK,
        f"{first.touched} of {first.peaks} star cores (sigma {first.sigma:.2f} px) were taken for cosmic "
        f"rays; {loss.touched} after {steps} steps back to cond3_fac2 = {found.cond3_fac2:.3f}",
        {
            "star_loss_before": first.fraction,
            "star_loss": loss.fraction,
            "peaks": loss.peaks,
            "sigma": first.sigma,
            "steps_back": steps,
            "cond3_fac2": found.cond3_fac2,
        },
    )
    return replace(found, steps_back=steps, reasons=(reason,))


def _takes_stars(found: CosmicRays, config: CosmicRayConfig, *, begun: bool) -> bool:
    """Say whether too many cores are touched and, to begin with, more than real cosmic rays feign."""
    loss = found.star_loss
    return (
        config.max_star_loss is not None
        and loss.peaks >= config.star_loss_min_peaks
        and loss.fraction > config.max_star_loss
        and (begun or loss.touched > config.star_loss_min_share * found.count)
    )


def _flattened(exposure: Exposure, config: BackgroundConfig) -> tuple[NDArray[np.float32], float]:
    """Return the image, or a flattened copy when bins are small, and its background level."""
    height, width = exposure.shape
    bin_x, bin_y = config.bin_size_x or config.bin_size, config.bin_size_y or config.bin_size
    if (width / bin_x) * (height / bin_y) <= 1.0:
        # A lattice gives the level to a hundredth of its noise; its step is odd, so that it meets even and odd columns.
        step = isqrt(exposure.image.size // _LEVEL_SAMPLE) | 1
        return exposure.image, statistics.median(exposure.image[::step, ::step])
    ignored = exposure.bits(*config.ignored_pixel_mask)
    model = fit_background(exposure.image, exposure.mask, ignored, config)
    image = exposure.image.copy()
    model.add_to(image, -1.0)
    return image, 0.0
