"""Star selectors: the clustering of the specification, purity among galaxies, the other selectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.characterize.errors import (
    MissingWcsError,
    NoGoodSourcesError,
    NoSourcesError,
    ReferenceStarsError,
)
from streamchar.characterize.psf.candidates import (
    ReserveConfig,
    choose_reserved,
    cut_stamps,
)
from streamchar.characterize.psf.object_size import ObjectSizeConfig, select_by_size, stellar_cluster
from streamchar.characterize.psf.references import ReferencesConfig, nearest_sources, select_references
from streamchar.characterize.psf.selectors import StarSelectorConfig, select_stars
from streamchar.characterize.source_selection import SourceCriteria, select_sources
from streamchar.image import Exposure

NAMES = (
    "slot_Centroid_x",
    "slot_Centroid_y",
    "slot_Shape_xx",
    "slot_Shape_yy",
    "base_PsfFlux_instFlux",
    "base_PsfFlux_instFluxErr",
)


def catalog_of(x, y, width, ratio):
    columns = [Column(name, "<f8", "", name) for name in NAMES]
    flags = [
        flag(name, name) for name in ("base_PixelFlags_flag_edge", "base_PsfFlux_flag", "calib_psf_used")
    ]
    catalog = SourceCatalog(Schema((*columns, *flags)), len(x))
    values = (x, y, width**2, width**2, 100.0 * ratio, np.full(len(x), 100.0))
    for name, value in zip(NAMES, values, strict=True):
        catalog[name] = value
    return catalog


def cluster_twin(widths, a, clip):
    """The clustering as the specification states it, one width at a time."""
    widths = [float(w) for w in widths]
    start = sorted(widths)[len(widths) // 10]
    centres = [start * (1 + 2 * a * k) for k in range(4)]
    labels = None
    while True:
        now = []
        for w in widths:
            best = 0
            for k in range(1, 4):
                if abs(w - centres[k]) < abs(w - centres[best]) or (
                    np.isnan(centres[best]) and not np.isnan(centres[k])
                ):
                    best = k
            now.append(best)
        if now == labels:
            break
        labels = now
        centres = [
            np.median([w for w, k in zip(widths, labels, strict=True) if k == c]) if c in labels else np.nan
            for c in range(4)
        ]
    member = [k == 0 for k in labels]
    if sum(member) < 5:
        return member
    for _ in range(10):
        inside = sorted(w for w, m in zip(widths, member, strict=True) if m)
        if not inside:
            break
        n = len(inside)
        sd = min(np.std(inside), 0.741 * (inside[int(0.75 * n)] - inside[int(0.25 * n)]))
        centre = np.median(inside)
        member = [m and abs(w - centre) < clip * sd for w, m in zip(widths, member, strict=True)]
        if sum(member) == n or sd < a * inside[n // 2]:
            break
    return member


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), stars=st.integers(1, 40), galaxies=st.integers(0, 40))
def test_cluster_equals_specification(seed, stars, galaxies):
    rng = np.random.default_rng(seed)
    widths = np.concatenate([rng.normal(1.7, 0.03, stars), rng.uniform(1.7, 6, galaxies)])
    np.testing.assert_array_equal(stellar_cluster(widths, 0.15, 2.0), cluster_twin(widths, 0.15, 2.0))


def test_cluster_of_nothing_and_of_one():
    assert len(stellar_cluster(np.empty(0), 0.15, 2.0)) == 0
    np.testing.assert_array_equal(stellar_cluster(np.array([2.0]), 0.15, 2.0), [True])
    # Equal widths have no spread, and a cluster of no spread is emptied, as in the reference.
    assert not stellar_cluster(np.full(9, 2.0), 0.15, 2.0).any()


def field_of_stars_and_galaxies(seed=0):
    rng = np.random.default_rng(seed)
    stars, galaxies = 150, 200
    x, y = rng.uniform(0, 2000, (2, stars + galaxies))
    ratio = 60 * (rng.pareto(1.0, stars + galaxies) + 1)
    psf = 1.7 * (1 + 0.08 * ((x / 1000 - 1) ** 2 + (y / 1000 - 1)))
    intrinsic = np.where(np.arange(stars + galaxies) < stars, 0.0, rng.uniform(0.9, 4.0, stars + galaxies))
    width = np.hypot(psf, intrinsic) * (1 + rng.normal(0, 1, stars + galaxies) / ratio)
    return catalog_of(x, y, width, ratio), np.arange(stars + galaxies) < stars


def test_following_the_locus_keeps_stars_and_purity():
    catalog, is_star = field_of_stars_and_galaxies()
    followed = select_by_size(catalog, ObjectSizeConfig())
    reference = select_by_size(catalog, ObjectSizeConfig(follow_locus=False))
    assert followed[is_star].mean() > 0.95
    assert followed[~is_star].sum() <= 0.01 * followed.sum()
    assert followed[is_star].sum() > reference[is_star].sum()


def test_cuts_and_errors():
    catalog, is_star = field_of_stars_and_galaxies()
    catalog["base_PixelFlags_flag_edge"][:75] = True
    catalog["slot_Shape_xx"][80] = np.nan
    catalog["base_PsfFlux_instFlux"][81] = 100.0
    chosen = select_by_size(catalog, ObjectSizeConfig())
    assert not chosen[:75].any()
    assert not chosen[[80, 81]].any()
    assert chosen[82:150].mean() > 0.9
    with pytest.raises(NoSourcesError):
        select_by_size(catalog_of(*[np.empty(0)] * 4), ObjectSizeConfig())
    faint = catalog_of(*np.ones((3, 5)), np.full(5, 3.0))
    with pytest.raises(NoGoodSourcesError) as error:
        select_by_size(faint, ObjectSizeConfig())
    assert error.value.values == {"sources": 5}
    assert is_star.any()


def test_few_stars_of_a_varying_psf_are_all_kept():
    catalog = catalog_of(
        np.array([10.0, 500, 900]), np.array([10.0, 500, 900]), np.array([1.6, 1.7, 1.8]), np.full(3, 900.0)
    )
    assert select_by_size(catalog, ObjectSizeConfig()).all()


def test_science_criteria():
    catalog, _ = field_of_stars_and_galaxies()
    assert select_sources(catalog, SourceCriteria()).all()
    catalog["base_PsfFlux_flag"][:3] = True
    config = SourceCriteria.model_validate(
        {
            "do_flags": True,
            "flags": {"bad": ["base_PsfFlux_flag"]},
            "do_signal_to_noise": True,
            "signal_to_noise": {"minimum": 200.0},
        }
    )
    ratio = catalog["base_PsfFlux_instFlux"] / catalog["base_PsfFlux_instFluxErr"]
    np.testing.assert_array_equal(
        select_sources(catalog, config), (ratio > 200) & ~catalog["base_PsfFlux_flag"]
    )
    with pytest.raises(KeyError):
        select_sources(catalog, SourceCriteria(do_unresolved=True))


def test_sky_sources_and_primary_ones():
    names = ("parent", "deblend_nChild", "coord_ra", "coord_dec", "slot_Centroid_xErr", "slot_Centroid_yErr")
    columns = [Column(name, "<f8", "", "") for name in names]
    columns += [flag(name, "") for name in ("detect_isPrimary", "sky_source")]
    catalog = SourceCatalog(Schema(tuple(columns), {}), 6)
    for name in names:
        catalog[name] = 0.0
    catalog["detect_isPrimary"] = True
    catalog["parent"][0], catalog["deblend_nChild"][1], catalog["coord_ra"][2] = 7, 2, np.nan
    catalog["slot_Centroid_yErr"][3] = 3.5
    catalog["detect_isPrimary"][4] = False
    cuts = ("do_isolated", "do_require_finite_ra_dec", "do_centroid_error_limit", "do_require_primary")
    lost = {"do_isolated": [0, 1], "do_require_finite_ra_dec": [2], "do_centroid_error_limit": [3]}
    for cut in cuts:
        selected = select_sources(catalog, SourceCriteria.model_validate({cut: True}))
        assert np.flatnonzero(~selected).tolist() == lost.get(cut, [4])
    catalog["sky_source"][1] = True
    every = {**dict.fromkeys(cuts, True), "do_sky_sources": True}
    selected = select_sources(catalog, SourceCriteria.model_validate(every))
    assert np.flatnonzero(selected).tolist() == [1, 5]


def test_flagged_and_null():
    catalog, is_star = field_of_stars_and_galaxies()
    catalog["calib_psf_used"] = is_star
    exposure = Exposure.from_image(np.ones((40, 40)), gain=1.0, read_noise=1.0)
    np.testing.assert_array_equal(
        select_stars(exposure, catalog, StarSelectorConfig(name="flagged")), is_star
    )
    assert select_stars(exposure, catalog, StarSelectorConfig(name="null")).all()


def test_references(tmp_path):
    from astropy.table import Table
    from astropy.wcs import WCS

    catalog, is_star = field_of_stars_and_galaxies()
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [30.0, -5.0], [1000, 1000], [-2e-4, 2e-4]
    exposure = Exposure.from_image(np.ones((40, 40)), gain=1.0, read_noise=1.0)
    path = tmp_path / "stars.ecsv"
    with pytest.raises(MissingWcsError):
        select_references(exposure, catalog, ReferencesConfig(path=path))
    exposure.wcs = wcs
    with pytest.raises(ReferenceStarsError):
        select_references(exposure, catalog, ReferencesConfig(path=path))
    with pytest.raises(ReferenceStarsError):
        select_references(exposure, catalog, ReferencesConfig())
    x, y = catalog["slot_Centroid_x"][is_star], catalog["slot_Centroid_y"][is_star]
    ra, dec = wcs.all_pix2world(x + 0.5, y, 0)
    ra[0] = np.nan
    Table({"ra": ra, "dec": dec}).write(path)
    chosen = select_references(exposure, catalog, ReferencesConfig(path=path, match_radius=1.0))
    assert chosen.sum() == is_star.sum() - 1
    assert not chosen[0]
    with pytest.raises(ReferenceStarsError, match="missing"):
        select_references(exposure, catalog, ReferencesConfig(path=path, ra_column="alpha"))


def test_nearest_sources_ignores_nan_and_distance():
    x, y = np.array([0.0, 10.0, np.nan]), np.array([0.0, 10.0, 5.0])
    chosen = nearest_sources(x, y, np.array([0.5, 100.0, np.nan]), np.array([0.0, 100.0, 0.0]), 2.0)
    np.testing.assert_array_equal(chosen, [True, False, False])
    assert not nearest_sources(np.empty(0), np.empty(0), x, y, 2.0).any()


def test_reserved_stars_are_the_generators_choice():
    config = ReserveConfig(fraction=0.2, min_candidates=0)
    flags = choose_reserved(50, config, 7)
    expected = np.zeros(50, bool)
    expected[:10] = True
    np.random.RandomState(8).shuffle(expected)
    np.testing.assert_array_equal(flags, expected)
    assert not choose_reserved(49, ReserveConfig(), 7).any()
    assert len(choose_reserved(0, config, 7)) == 0


def test_stamps_at_the_border():
    plane = np.arange(100, dtype=np.float32).reshape(10, 10)
    stamps, inside = cut_stamps(plane, np.array([2.0, 1.0, 7.4, 7.6, np.nan]), np.full(5, 5.0), 5)
    np.testing.assert_array_equal(inside, [True, False, True, False, False])
    assert stamps.dtype == np.float32
    np.testing.assert_array_equal(stamps[0], plane[3:8, 0:5])
    assert (stamps[[1, 3, 4]] == 0).all()
    np.testing.assert_array_equal(cut_stamps(plane, np.ones(1), np.ones(1), 3)[0][0], plane[:3, :3])
    assert cut_stamps(plane, np.ones(1), np.ones(1), 11)[0].shape == (1, 11, 11)
    assert cut_stamps(plane, np.empty(0), np.empty(0), 3)[0].shape == (0, 3, 3)
