"""PSF measurement: select stars, cut candidates, hold some back, fit the model (reference: psf.md section 1)."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, SourceCatalog, flag
from streamchar.characterize.errors import (
    NoGoodSourcesError,
    NonFinitePsfError,
    NoSourcesError,
    TooFewPsfStarsError,
)
from streamchar.characterize.psf.candidates import (
    Candidates,
    MakePsfCandidatesConfig,
    ReserveConfig,
    make_candidates,
)
from streamchar.characterize.psf.determiners import PsfDeterminerConfig, analytic_psf, determine_psf
from streamchar.characterize.psf.forward.fit import fit_constant
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.result import PsfFit
from streamchar.characterize.psf.selectors import StarSelectorConfig, select_stars
from streamchar.characterize.psf.width import average_sigma
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure, Psf
from streamchar.robust import median

COLUMNS = (
    flag("calib_psf_candidate", "chosen by the star selector and usable as a stamp"),
    flag("calib_psf_used", "survived in the PSF fit"),
    flag("calib_psf_reserved", "withheld from the PSF fit"),
    Column("psf_max_value", "<f8", "count", "largest finite pixel of the PSF candidate's stamp"),
)
"""Columns PSF measurement adds (reference: outputs.md section 2)."""

_FALLBACK_SIGMA = 1.5
_FALLBACK_WIDTH = 41


class MeasurePsfConfig(Configuration):
    """Settings of :class:`MeasurePsf`."""

    star_selector: StarSelectorConfig = StarSelectorConfig()
    """Which sources are stars."""
    make_psf_candidates: MakePsfCandidatesConfig = MakePsfCandidatesConfig()
    """Which stars have a usable stamp."""
    reserve: ReserveConfig = ReserveConfig()
    """Stars held back from the fit to judge it."""
    psf_determiner: PsfDeterminerConfig = PsfDeterminerConfig()
    """How the model is fitted."""
    preliminary: Literal["constant", "full"] = "constant"
    """The model of all rounds but the last, of which the next one only takes the width: the mean of the brightest
    stars, or the whole fit as in the reference."""
    allow_fallback: bool = True
    """With too few stars fit an analytic profile, or keep a Gaussian of the present width, and say so in the
    reasons; otherwise too few stars are an error, as in the reference."""


@frozen(eq=False)
class PsfStars:
    """The PSF candidates, n of them.

    Attributes
    ----------
    index
        int64 (n): rows of the catalogue, ascending.
    x, y
        float64 (n): centroids in pixels.
    flux
        float64 (n): PSF flux, in image units.
    used
        bool (n): took part in the final fit.
    reserved
        bool (n): held back from the fit.
    chi2
        float64 (n): reduced chi-square of the model on the star's stamp, NaN for stars not used.
    """

    index: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    used: NDArray[np.bool_]
    reserved: NDArray[np.bool_]
    chi2: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)


@frozen(eq=False)
class PsfMeasurement:
    """A PSF model, the stars behind it and how far down the ladder it was found.

    Attributes
    ----------
    psf
        The model.
    stars
        The candidates.
    available, used, reserved
        Numbers of candidates, of stars in the fit and of stars held back.
    order
        Spatial degree of the model.
    chi2
        Median reduced chi-square of the used stars, NaN when unknown.
    average_position
        Mean position (x, y) of the used stars in pixels.
    reasons
        Codes of what was not as asked for: ``psf_order_lowered``, ``psf_constant``, ``psf_analytic``,
        ``no_psf_stars``.
    metadata
        The same figures by the reference's names, and the PSF's size at its average position.
    """

    psf: Psf
    stars: PsfStars
    available: int
    used: int
    reserved: int
    order: int
    chi2: float
    average_position: tuple[float, float]
    reasons: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


class MeasurePsf(Task[MeasurePsfConfig]):
    """Measure the PSF of an exposure on the stars among its sources."""

    config_class = MeasurePsfConfig
    default_name = "measure_psf"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns :meth:`run` fills."""
        return COLUMNS

    def run(
        self, exposure: Exposure, catalog: SourceCatalog, *, exposure_id: int = 0, preliminary: bool = False
    ) -> PsfMeasurement:
        """Select stars, fit the model, attach it to the exposure and mark the stars in the catalogue.

        Parameters
        ----------
        exposure
            Background subtracted; its ``psf`` is replaced.
        catalog
            Measured sources with the slots Centroid and Shape and the flux columns the selector and determiner
            name. ``calib_psf_candidate``, ``calib_psf_used``, ``calib_psf_reserved`` and ``psf_max_value`` are
            written where they exist.
        exposure_id
            Seeds the choice of held-back stars.
        preliminary
            Only the width of the model is needed: ``config.preliminary`` says how it is found.

        Raises
        ------
        NoSourcesError, NoGoodSourcesError, TooFewPsfStarsError
            Nothing to fit the model to and ``allow_fallback`` is off.
        NonFinitePsfError
            The fitted model has no finite size.
        """
        with self.timer("run"):
            candidates = self._candidates(exposure, catalog, exposure_id)
            fit = self._fit(exposure, catalog, candidates, preliminary=preliminary)
            size = average_sigma(fit.psf)
            self.record("psf_size", size)
            if not (np.isfinite(size) and size > 0):
                raise NonFinitePsfError(size=size)
            exposure.psf = fit.psf
            used = np.zeros(len(catalog), np.bool_)
            used[fit.used] = True
            used = used[candidates.index]
            _mark(catalog, candidates, used)
            return self._measurement(catalog, candidates, fit, used, size)

    def _candidates(self, exposure: Exposure, catalog: SourceCatalog, exposure_id: int) -> Candidates:
        config = self.config
        try:
            stars = select_stars(exposure, catalog, config.star_selector)
        except (NoSourcesError, NoGoodSourcesError):
            if not config.allow_fallback:
                raise
            stars = np.zeros(len(catalog), np.bool_)
        return make_candidates(
            exposure, catalog, stars, config.make_psf_candidates, config.reserve, exposure_id
        )

    def _fit(
        self, exposure: Exposure, catalog: SourceCatalog, candidates: Candidates, *, preliminary: bool
    ) -> PsfFit:
        config = self.config
        index = candidates.index[~candidates.reserved]
        try:
            if preliminary and config.preliminary == "constant":
                return fit_constant(exposure, catalog, index, config.psf_determiner.pixel_basis)
            return determine_psf(exposure, catalog, index, config.psf_determiner)
        except TooFewPsfStarsError:
            if not config.allow_fallback:
                raise
        # Without a pixel model every star is needed, those held back as well.
        fit = analytic_psf(exposure, catalog, candidates.index, config.psf_determiner)
        return fit if fit is not None else _gaussian(exposure)

    def _measurement(
        self,
        catalog: SourceCatalog,
        candidates: Candidates,
        fit: PsfFit,
        used: NDArray[np.bool_],
        size: float,
    ) -> PsfMeasurement:
        chi2 = np.full(len(candidates), np.nan)
        chi2[used] = fit.chi2
        reserved = candidates.reserved & ~used
        flux = catalog["base_PsfFlux_instFlux"][candidates.index].astype(np.float64)
        stars = PsfStars(candidates.index, candidates.x, candidates.y, flux, used, reserved, chi2)
        finite = fit.chi2[np.isfinite(fit.chi2)]
        middle = float(median(finite))
        metadata = {
            "spatial_fit_chi2": middle,
            "num_avail_stars": len(candidates),
            "num_good_stars": int(used.sum()),
            "avg_x": fit.psf.average_position[0],
            "avg_y": fit.psf.average_position[1],
            "spatial_order": fit.degree,
            "psf_size": size,
        }
        for name, value in metadata.items():
            if name != "psf_size":
                self.record(name, value)
        return PsfMeasurement(
            psf=fit.psf,
            stars=stars,
            available=len(candidates),
            used=int(used.sum()),
            reserved=int(reserved.sum()),
            order=fit.degree,
            chi2=middle,
            average_position=fit.psf.average_position,
            reasons=fit.reasons,
            metadata=metadata,
        )


def _gaussian(exposure: Exposure) -> PsfFit:
    """Return the last rung: a Gaussian of the width the exposure's PSF has, at the width of a pixel model's images."""
    height, width = exposure.shape
    sigma, size = _FALLBACK_SIGMA, _FALLBACK_WIDTH
    position = (0.5 * (width - 1), 0.5 * (height - 1))
    if exposure.psf is not None:
        position = exposure.psf.average_position
        present = average_sigma(exposure.psf)
        if np.isfinite(present) and present > 0:
            sigma, size = present, max(exposure.psf.size)
    psf = GaussianPsf(sigma, size, position)
    return PsfFit(psf, np.empty(0, np.int64), np.empty(0), 0, ("no_psf_stars",))


def _mark(catalog: SourceCatalog, candidates: Candidates, used: NDArray[np.bool_]) -> None:
    values = {
        "calib_psf_candidate": np.ones(len(candidates), np.bool_),
        "calib_psf_used": used,
        "calib_psf_reserved": candidates.reserved & ~used,
        "psf_max_value": candidates.maximum,
    }
    for name, value in values.items():
        if name in catalog:
            catalog[name][candidates.index] = value
