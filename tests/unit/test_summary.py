"""Every summary statistic against its definition, written out for a detector whose PSF widens along x."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.wcs import WCS

from streamchar.characterize.background import BackgroundList
from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.summary import ComputeSummary, Summary, SummaryConfig
from streamchar.image import Exposure, Identity, Moments, Observation

HEIGHT, WIDTH, SIZE = 400, 600, 31
HIGHER = "ext_shapeHSM_HigherOrderMomentsSource"
ORDERS = ("30", "21", "12", "03", "40", "31", "22", "13", "04")


class WideningPsf:
    """Gaussians whose sigma grows from 2.0 at the first column to 2.6 at the last."""

    size = (SIZE, SIZE)
    average_position = (300.0, 200.0)

    def sigma(self, x):
        return 2.0 + 1e-3 * np.atleast_1d(np.asarray(x, float))

    def kernel_images(self, x, y):
        square = np.square(np.mgrid[-15:16, -15:16]).sum(axis=0)
        images = np.exp(-square / (2 * self.sigma(x)[:, None, None] ** 2))
        return images / images.sum(axis=(1, 2), keepdims=True)

    def shapes(self, x, y):
        square = self.sigma(x) ** 2
        return Moments(1.1 * square, 0.9 * square, 0.1 * square)


class Tilted:
    """An aperture correction that falls along y."""

    def evaluate(self, x, y):
        return 1.0 - 1e-4 * y


@pytest.fixture(name="exposure")
def made_exposure():
    rng = np.random.default_rng(1)
    image = rng.normal(0, 5, (HEIGHT, WIDTH)).astype(np.float32)
    image[:20] = 1e4
    mask = np.zeros((HEIGHT, WIDTH), np.int32)
    variance = np.full((HEIGHT, WIDTH), 25.0, np.float32)
    exposure = Exposure(
        image,
        mask,
        variance,
        psf=WideningPsf(),
        identity=Identity("DemoCam", 1, 1, "r"),
        observation=Observation(exposure_time=30.0, gain=2.0, read_noise=6.0, zero_point=31.0),
    )
    exposure.mask[:20] |= exposure.bits("SUSPECT")
    exposure.mask[:, 500:] |= exposure.bits("BAD")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [359.99, -30.0], [1.0, 1.0]
    wcs.wcs.cd = np.array([[-0.8, 0.6], [0.6, 0.8]]) * 0.2 / 3600
    exposure.wcs = wcs
    exposure.aperture_corrections = {"base_PsfFlux_instFlux": Tilted()}
    return exposure


@pytest.fixture(name="catalog")
def made_catalog():
    rng = np.random.default_rng(2)
    moments = [f"slot_Shape_{axis}" for axis in ("xx", "yy", "xy", "x", "y")]
    numbers = [
        *moments,
        "slot_Centroid_x",
        "slot_Centroid_y",
        "slot_PsfFlux_instFlux",
        "slot_PsfFlux_instFluxErr",
    ]
    numbers += [f"{HIGHER}_{order}" for order in ORDERS]
    flags = [
        "slot_Shape_flag",
        "slot_PsfFlux_flag",
        "calib_psf_used",
        "calib_psf_reserved",
        "calib_psf_candidate",
    ]
    columns = (*(Column(name, "<f8", "", name) for name in numbers), *(flag(name, name) for name in flags))
    catalog = SourceCatalog(Schema(columns, {}), 60)
    x, y = rng.uniform(20, 480, 60), rng.uniform(20, 380, 60)
    catalog["slot_Centroid_x"], catalog["slot_Centroid_y"] = x, y
    for axis, mean in (("xx", 5.0), ("yy", 4.5), ("xy", 0.3)):
        catalog[f"slot_Shape_{axis}"] = mean + rng.normal(0, 0.2, 60)
    catalog["slot_PsfFlux_instFlux"], catalog["slot_PsfFlux_instFluxErr"] = rng.uniform(3e3, 1.2e5, 60), 100.0
    for order in ORDERS:
        catalog[f"{HIGHER}_{order}"] = rng.normal(1, 1, 60)
    catalog[f"{HIGHER}_30"][3] = np.nan
    catalog["calib_psf_used"][:40] = True
    catalog["calib_psf_reserved"][40:55] = True
    catalog["calib_psf_candidate"][:58] = True
    catalog["slot_Shape_flag"][5] = catalog["slot_PsfFlux_flag"][6] = catalog["slot_Shape_flag"][45] = True
    return catalog


@pytest.fixture(name="summary")
def computed(exposure, catalog):
    exposure.metadata |= {"PSF_ADAPTIVE_THRESHOLD_VALUE": 7.5, "SFM_ASTROM_OFFSET_STD": 0.04}
    config = SummaryConfig(psf_grid_sampling=96, psf_distance_sampling=8)
    measurement = SimpleNamespace(psf=exposure.psf)
    return ComputeSummary(config).run(exposure, BackgroundList(), catalog, measurement, None)


def grid(exposure, sampling):
    """Positions of the good grid points (section 1)."""
    bad = exposure.bits("BAD", "CR", "EDGE", "INTRP", "NO_DATA", "SAT", "SUSPECT")
    rows, columns = np.nonzero((exposure.mask[::sampling, ::sampling] & bad) == 0)
    return columns * float(sampling), rows * float(sampling)


def test_psf_model(exposure, summary):
    square = 2.2995**2
    assert summary.psf_sigma == pytest.approx((1.1 * 0.9 - 0.01) ** 0.25 * 2.2995)
    found = summary.psf_ixx, summary.psf_iyy, summary.psf_ixy, summary.psf_e1, summary.psf_e2
    assert found == pytest.approx((1.1 * square, 0.9 * square, 0.1 * square, 0.1, 0.1))
    assert summary.psf_area == pytest.approx(4 * np.pi * square, rel=1e-6)
    x, y = grid(exposure, 96)
    assert (x.min(), x.max(), y.min(), y.max()) == (0, 480, 96, 384)
    assert summary.psf_trace_radius_delta == pytest.approx(0.48)
    radius = max(2.0, 3 * summary.psf_sigma)
    narrowest, widest = (1 - np.exp(-(radius**2) / (2 * sigma**2)) for sigma in (2.0, 2.48))
    assert summary.psf_ap_flux_delta == pytest.approx(narrowest - widest, rel=0.05)
    assert summary.psf_ap_corr_sigma_scaled_delta == pytest.approx(1e-4 * 288 / summary.psf_sigma)


def test_stars(catalog, exposure, summary):
    assert (summary.n_psf_star, summary.n_psf_reserved, summary.n_psf_candidate) == (40, 15, 58)
    ratio = catalog["slot_PsfFlux_instFlux"] / catalog["slot_PsfFlux_instFluxErr"]
    good = ~catalog["slot_Shape_flag"] & ~catalog["slot_PsfFlux_flag"] & (ratio > 50) & (ratio < 1000)
    used, reserved = good & catalog["calib_psf_used"], good & catalog["calib_psf_reserved"]
    xx, yy, xy = (catalog[f"slot_Shape_{axis}"] for axis in ("xx", "yy", "xy"))
    model = exposure.psf.shapes(catalog["slot_Centroid_x"], catalog["slot_Centroid_y"])
    e1 = (xx - yy) / (xx + yy) - 0.1
    e2 = 2 * xy / (xx + yy) - 0.1
    size = np.sqrt((xx + yy) / 2)
    residuals = {"e1": e1, "e2": e2, "size": size - np.sqrt((model.xx + model.yy) / 2)}
    for prefix, sample in (("psf_used_star", used), ("psf_star", reserved)):
        for name, values in residuals.items():
            median = np.median(values[sample])
            assert getattr(summary, f"{prefix}_delta_{name}_median") == pytest.approx(median)
            scatter = 1.4826 * np.median(np.abs(values[sample] - median))
            assert getattr(summary, f"{prefix}_delta_{name}_scatter") == pytest.approx(scatter)
    scaled = summary.psf_star_delta_size_scatter / np.median(size[reserved])
    assert summary.psf_star_scaled_delta_size_scatter == pytest.approx(scaled)
    both = used | reserved
    assert summary.star_e_median == pytest.approx(np.median(np.hypot(e1 + 0.1, e2 + 0.1)[both]))
    assert summary.star_un_normalized_e_median == pytest.approx(np.median(np.hypot(xx - yy, 2 * xy)[both]))
    m = {order: catalog[f"{HIGHER}_{order}"][both] for order in ORDERS}
    for name, values in {
        "coma1": m["30"] + m["12"],
        "coma2": m["21"] + m["03"],
        "trefoil1": m["30"] - 3 * m["12"],
        "trefoil2": 3 * m["21"] - m["03"],
        "kurtosis": m["40"] + 2 * m["22"] + m["04"],
        "e41": m["40"] - m["04"],
        "e42": 2 * (m["31"] + m["13"]),
    }.items():
        assert getattr(summary, f"star_{name}_median") == pytest.approx(np.nanmedian(values))
    x, y = grid(exposure, 8)
    places = catalog["slot_Centroid_x"][used], catalog["slot_Centroid_y"][used]
    farthest = np.hypot(x[:, None] - places[0], y[:, None] - places[1]).min(axis=1).max()
    assert summary.max_dist_to_nearest_psf == pytest.approx(farthest)


def test_coordinates(exposure, summary):
    corners = exposure.wcs.all_pix2world([-0.5, 599.5, 599.5, -0.5], [-0.5, -0.5, 399.5, 399.5], 0)
    np.testing.assert_allclose(np.array([summary.ra_corners, summary.dec_corners]), corners, rtol=1e-12)
    centre = exposure.wcs.all_pix2world(299.5, 199.5, 0)
    assert (summary.ra, summary.dec) == pytest.approx(tuple(map(float, centre)))
    assert summary.pixel_scale == pytest.approx(0.2, rel=1e-6)
    assert summary.psf_fwhm_arcsec == pytest.approx(0.2 * summary.psf_fwhm, rel=1e-6)


def test_the_pixel_scale_is_that_of_the_centre(exposure):
    """Far from the reference point the gnomonic projection stretches: by 1/cos^3 in area."""
    exposure.wcs.wcs.crpix = [-50_000.0, 0.0]
    exposure.wcs = exposure.wcs
    found = ComputeSummary().run(exposure, BackgroundList(), None, None, None)
    away = np.hypot(50_300.5, 200.5) * np.radians(0.2 / 3600)
    assert found.pixel_scale == pytest.approx(0.2 * np.cos(np.arctan(away)) ** 1.5, rel=1e-7)


def test_noise_and_depth(exposure, summary):
    # The rows of bright pixels are marked as suspect.
    assert summary.sky_noise == pytest.approx(5.0 * 0.986, rel=0.02)
    assert (summary.mean_var, summary.exp_time, summary.zero_point) == (25.0, 30.0, 31.0)
    assert np.isnan(summary.sky_bg)
    assert np.isnan(summary.mag_lim)
    assert summary.eff_time_psf_sigma_scale == pytest.approx(summary.psf_sigma**-2)


def test_figures_from_the_metadata(summary):
    assert summary.psf_adaptive_threshold_value == 7.5
    assert summary.astrom_offset_std == 0.04
    for name in ("psf_adaptive_include_threshold_multiplier", "ref_cat_source_density", "astrom_offset_mean"):
        assert np.isnan(getattr(summary, name))


def test_missing_ingredients_leave_nan(exposure, catalog):
    exposure.mask |= exposure.bits("BAD")
    exposure.wcs = None
    measurement = SimpleNamespace(psf=exposure.psf)
    found = ComputeSummary().run(exposure, BackgroundList(), catalog, measurement, None)
    for name in (
        "psf_trace_radius_delta",
        "psf_ap_flux_delta",
        "psf_ap_corr_sigma_scaled_delta",
        "ra",
        "pixel_scale",
    ):
        assert np.isnan(getattr(found, name))
    assert np.isnan(found.max_dist_to_nearest_psf)
    catalog["calib_psf_used"] = catalog["calib_psf_reserved"] = np.zeros(60, bool)
    none = ComputeSummary().run(exposure, BackgroundList(), catalog, measurement, None)
    assert none.n_psf_star == 0
    assert np.isnan(none.star_e_median)
    exposure.psf = None
    assert np.isnan(ComputeSummary().run(exposure, BackgroundList(), None, None, None).psf_sigma)


def test_one_bad_value_spoils_a_range(exposure):
    exposure.aperture_corrections["base_PsfFlux_instFlux"].evaluate = lambda x, y: np.where(
        y > 300, np.inf, 1.0
    )
    found = ComputeSummary().run(exposure, BackgroundList(), None, None, None)
    assert np.isnan(found.psf_ap_corr_sigma_scaled_delta)


def test_the_reference_samples_its_own_grids():
    config = CharacterizeImageConfig.preset("reference").compute_summary_stats
    assert (config.psf_grid_sampling, config.psf_distance_sampling) == (96, 8)


def test_every_figure_has_a_unit():
    assert set(Summary.units()) == set(Summary.__slots__)
