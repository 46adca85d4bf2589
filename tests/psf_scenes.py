"""Simulated stars whose PSF varies over the field, with their catalogue and the truth, for the tests of PSF measurement."""

from dataclasses import dataclass

import galsim
import numpy as np

from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.characterize.psf.measure import COLUMNS
from streamchar.characterize.psf.pixel_basis import adaptive_moments
from streamchar.image import Exposure
from streamchar.kernels import sdss_shape_image

FLOATS = (
    "base_SdssCentroid_x",
    "base_SdssCentroid_y",
    "ext_shapeHSM_HsmSourceMoments_xx",
    "ext_shapeHSM_HsmSourceMoments_yy",
    "ext_shapeHSM_HsmSourceMoments_xy",
    "base_PsfFlux_instFlux",
    "base_PsfFlux_instFluxErr",
    "base_CircularApertureFlux_9_0_instFlux",
)
FLAGS = (
    "base_SdssCentroid_flag",
    "base_PixelFlags_flag_saturatedCenter",
    "base_PixelFlags_flag_crCenter",
    "base_PixelFlags_flag_edge",
)
SCHEMA = Schema(
    (*(Column(name, "<f8", "", name) for name in FLOATS), *(flag(name, name) for name in FLAGS), *COLUMNS),
    {"slot_Centroid": "base_SdssCentroid", "slot_Shape": "ext_shapeHSM_HsmSourceMoments"},
)
SKY, GAIN, READ_NOISE = 400.0, 1.5, 5.0


@dataclass
class PsfField:
    """A Moffat or Kolmogorov PSF whose size and ellipticity are polynomials of the position."""

    fwhm: float
    order: int
    size: int = 1000
    seed: int = 0
    size_rms: float = 0.03
    ellipticity_rms: float = 0.03
    profile: str = "moffat"

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        powers = [(i, j) for i in range(self.order + 1) for j in range(self.order + 1 - i) if i + j]
        x, y = np.meshgrid(*[np.linspace(-1, 1, 21)] * 2)
        self.terms = []
        for rms in (self.size_rms, self.ellipticity_rms, self.ellipticity_rms):
            values = rng.normal(size=len(powers))
            spread = (
                sum((c * x**i * y**j for c, (i, j) in zip(values, powers, strict=True)), 0 * x).std() or 1.0
            )
            self.terms.append([(c * rms / spread, i, j) for c, (i, j) in zip(values, powers, strict=True)])

    def at(self, x, y):
        """The profile at a pixel position."""
        u, v = 2 * x / self.size - 1, 2 * y / self.size - 1
        size, e1, e2 = (sum(c * u**i * v**j for c, i, j in terms) for terms in self.terms)
        if self.profile == "moffat":
            psf = galsim.Moffat(beta=3.0, fwhm=self.fwhm)
        else:
            psf = galsim.Kolmogorov(fwhm=self.fwhm)
        return psf.dilate(1 + size).shear(e1=np.clip(e1, -0.5, 0.5) + 0.02, e2=np.clip(e2, -0.5, 0.5) - 0.01)

    def stamp(self, x, y, width=41, flux=1.0):
        """Pixels around the pixel that holds (x, y), and that pixel."""
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        image = (
            self.at(x, y)
            .withFlux(flux)
            .drawImage(nx=width, ny=width, scale=1, offset=(x - column, y - row), dtype=float)
        )
        return image.array, column, row

    def grid(self, side=6, width=41):
        """Positions and true images centred on the middle pixel."""
        points = np.linspace(60, self.size - 61, side)
        x, y = (axis.ravel() for axis in np.meshgrid(points, points))
        images = [
            self.at(a, b).drawImage(nx=width, ny=width, scale=1, dtype=float).array
            for a, b in zip(x, y, strict=True)
        ]
        return x, y, np.array(images)


@dataclass
class StarScene:
    """An exposure of stars and their catalogue; ``truth`` holds x, y, flux and signal to noise."""

    exposure: Exposure
    catalog: SourceCatalog
    truth: np.ndarray


def measure(exposure, catalog):
    """Fill the shape slot from the pixels."""
    shapes = sdss_shape_image(
        exposure.image, catalog["slot_Centroid_x"].copy(), catalog["slot_Centroid_y"].copy()
    )
    for name, values in zip(("xx", "yy", "xy"), shapes[:3], strict=True):
        catalog["slot_Shape_" + name] = values


def star_scene(field, count, seed, *, faintest=60.0, brightest=1500.0, separation=45.0):
    """Stars with a power law of signal to noise, centroid and flux errors of their size."""
    rng = np.random.default_rng(seed)
    size = field.size
    places = []
    while len(places) < count:
        x, y = rng.uniform(25, size - 26, 2)
        if all((x - a) ** 2 + (y - b) ** 2 > separation**2 for a, b in places):
            places.append((x, y))
    x, y = np.array(places).reshape(-1, 2).T
    ratio = np.minimum(faintest * (rng.pareto(0.9, count) + 1), brightest)
    noise = np.sqrt(SKY / GAIN + (READ_NOISE / GAIN) ** 2)
    area_noise = np.sqrt(4 * np.pi) * field.fwhm / 2.355 * noise * 1.3
    flux = 0.5 * (ratio**2 / GAIN + np.sqrt((ratio**2 / GAIN) ** 2 + 4 * (ratio * area_noise) ** 2))
    light = np.zeros((size, size))
    for a, b, f in zip(x, y, flux, strict=True):
        stamp, column, row = field.stamp(a, b, 61, f)
        top, left = row - 30, column - 30
        rows, columns = slice(max(top, 0), min(top + 61, size)), slice(max(left, 0), min(left + 61, size))
        light[rows, columns] += stamp[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
    pixels = rng.poisson((light + SKY) * GAIN) / GAIN + rng.normal(0, READ_NOISE / GAIN, light.shape)
    exposure = Exposure.from_image(pixels, gain=GAIN, read_noise=READ_NOISE)
    exposure.image -= np.float32(SKY)
    catalog = SourceCatalog(SCHEMA, count)
    error = 1.4 * field.fwhm / 2.355 / ratio
    catalog["slot_Centroid_x"], catalog["slot_Centroid_y"] = (
        x + rng.normal(0, error),
        y + rng.normal(0, error),
    )
    catalog["base_PsfFlux_instFlux"] = flux * (1 + rng.normal(0, 1, count) / ratio)
    catalog["base_PsfFlux_instFluxErr"] = flux / ratio
    catalog["base_CircularApertureFlux_9_0_instFlux"] = catalog["base_PsfFlux_instFlux"]
    measure(exposure, catalog)
    return StarScene(exposure, catalog, np.stack([x, y, flux, ratio], axis=1))


def errors(psf, field):
    """Mean and rms relative error of T = xx + yy in per cent, and rms error of ellipticity in 1e-4, over the field."""
    x, y, images = field.grid(width=psf.size[0])
    true, model = adaptive_moments(images), psf.shapes(x, y)
    size = (model.xx + model.yy) / (true.xx + true.yy) - 1
    shape = np.concatenate([model.e1 - true.e1, model.e2 - true.e2])
    return 100 * size.mean(), 100 * np.sqrt((size**2).mean()), 1e4 * np.sqrt((shape**2).mean())
