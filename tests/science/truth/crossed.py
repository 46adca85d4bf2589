"""Puts real cosmic-ray hits on stars: the hard case, too rare in ordinary scenes to be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamchar.telescope.truth import Truth

HITS = Path(__file__).parents[2] / "data" / "cosmic_ray_hits.npz"
SNR_LIMITS = (100.0, 1500.0)


def hits_on_stars(truth: Truth, seed: int) -> np.ndarray:
    """Charge image in electrons, one real hit with a pixel within 1.5 FWHM of each bright isolated star."""
    random = np.random.default_rng([seed, 5])
    height, width = truth.geometry.height, truth.geometry.width
    charge = np.zeros((height, width), np.float32)
    stars = truth.sources
    inside = (stars["x"] > 60) & (stars["x"] < width - 60) & (stars["y"] > 60) & (stars["y"] < height - 60)
    chosen = inside & ~stars["galaxy"] & ~stars["saturated"] & ~stars["bad_pixel"] & ~stars["blended"]
    chosen &= (stars["snr"] > SNR_LIMITS[0]) & (stars["snr"] < SNR_LIMITS[1])
    hits = _load_hits()
    for star in stars[chosen]:
        y, x, electrons = hits[random.integers(len(hits))]
        anchor = random.integers(len(x))
        radius = 1.5 * truth.psf.fwhm * np.sqrt(random.uniform())
        angle = random.uniform(0, 2 * np.pi)
        dx = round(star["x"] + radius * np.cos(angle)) - x[anchor]
        dy = round(star["y"] + radius * np.sin(angle)) - y[anchor]
        column, row = x + dx, y + dy
        on = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        np.add.at(charge, (row[on], column[on]), electrons[on])
    return charge


def _load_hits() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    with np.load(HITS) as data:
        length = data["length"].astype(int)
        first = np.repeat(data["x0"].astype(int), length)
        start = np.repeat(np.cumsum(length) - length, length)
        x = first + np.arange(length.sum()) - start
        y, hit = np.repeat(data["y"].astype(int), length), np.repeat(data["hit"], length)
        electrons = data["electrons"].astype(np.float32)
    return [(y[hit == number], x[hit == number], electrons[hit == number]) for number in np.unique(hit)]
