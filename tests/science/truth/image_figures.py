"""How well the background and the cosmic rays were found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamchar.characterize.task import CharacterizationResult
from streamchar.image import Exposure
from streamchar.telescope.truth import Truth

Figures = dict[str, float]

HIT_SIGMA = 6.0
STAR_SNR = 30.0


def background_figures(result: CharacterizationResult, truth: Truth) -> Figures:
    model = result.background.image()
    residual = (model.astype(np.float64) - truth.sky_image()) / truth.sky_sigma
    return {
        "background_mean": float(residual.mean()),
        "background_rms": float(residual.std()),
        "background_worst": float(np.abs(residual - residual.mean()).max()),
    }


def cosmic_ray_figures(result: CharacterizationResult, truth: Truth, raw: Exposure) -> Figures:
    """``raw`` is the exposure as simulated: its variance holds the photons of stars and hits."""
    exposure, hits = result.exposure, truth.cosmic_rays
    flagged = (exposure.mask & exposure.bits("CR")) != 0
    pixels = flagged.size / 1e6
    real = ndimage.binary_dilation(truth.cosmic_ray_mask(), np.ones((3, 3)))
    figures: Figures = {"false_cosmic_ray_pixels": float((flagged & ~real).sum() / pixels)}
    figures |= _star_loss(flagged, truth)
    if not len(hits):
        return figures
    gain = truth.scene.camera.gain
    charge = hits.charge / gain
    # Saturated cores have no noise to speak of: what falls there is not to be seen.
    visible = (raw.mask[hits.y, hits.x] & raw.bits("SAT", "BAD")) == 0
    variance = np.maximum(raw.variance[hits.y, hits.x] - charge / gain, truth.sky_sigma**2 * 0.5)
    bright = visible & (charge > HIT_SIGMA * np.sqrt(variance))
    wanted = np.zeros(len(hits), bool)
    wanted[hits.hit[bright]] = True
    masked = flagged[hits.y, hits.x]
    found = np.zeros(len(hits), bool)
    found[hits.hit[bright & masked]] = True
    if not wanted.any():
        return figures
    counted = wanted[hits.hit] & visible
    return figures | {
        "cosmic_ray_hits": int(wanted.sum()),
        "cosmic_rays_found": 100.0 * float(found[wanted].mean()),
        "cosmic_ray_charge": 100.0 * float(charge[counted & masked].sum() / charge[counted].sum()),
    }


def _star_loss(flagged: NDArray[np.bool_], truth: Truth) -> Figures:
    table = truth.sources
    height, width = flagged.shape
    chosen = ~(table["galaxy"] | table["saturated"] | table["cosmic_ray"] | table["bad_pixel"])
    chosen &= (table["snr"] > STAR_SNR) & ~(table["streak_distance"] < 10 * truth.psf.fwhm)
    chosen &= (table["x"] > 5) & (table["x"] < width - 6) & (table["y"] > 5) & (table["y"] < height - 6)
    touched = ndimage.binary_dilation(flagged, np.ones((3, 3)))
    x, y = (np.floor(table[axis][chosen] + 0.5).astype(int) for axis in "xy")
    return {"stars_lost": int(touched[y, x].sum()), "stars_at_risk": int(chosen.sum())}
