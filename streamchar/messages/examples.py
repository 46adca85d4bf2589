"""One small and one full example of every message, always the same, for the published contract and for tests."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from streamchar.messages.base import Message, ProductIdentity, Provenance, Reason, StageTiming
from streamchar.messages.catalog_chunks import encode_catalog
from streamchar.messages.codec import decode
from streamchar.messages.exposure_ready import ExposureReady
from streamchar.messages.exposure_status import ExposureStatus, ProductDescription, SourcePosition
from streamchar.messages.identifiers import event_id
from streamchar.messages.psf_chunks import encode_psf_model
from streamchar.messages.psf_model import PsfModel
from streamchar.messages.psf_quality import PsfGrid, PsfQuality, ReservedStarResiduals, SummaryStatistics
from streamchar.messages.source_catalog import CatalogColumn

MOMENT = datetime(2026, 1, 31, 3, 14, 15, 926535, UTC)
DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
IDENTITY = ProductIdentity(
    event_id=event_id("DemoCam", 2026013100042, 3),
    instrument="DemoCam",
    exposure=2026013100042,
    detector=3,
    config_digest=DIGEST,
    band="r",
)
PROVENANCE = Provenance(software_version="0.1.0", preset="best")


def make_examples() -> dict[str, dict[str, Message]]:
    """Return the examples by message type and name."""
    chunks = _catalog(rows=40)
    return {
        "exposure-ready": {"minimal": _minimal_event(), "full": _full_event()},
        "psf-quality": {"minimal": _minimal_quality(), "full": _full_quality()},
        "catalog-chunk": {"minimal": _catalog(rows=2)[0], "full": chunks[0]},
        "catalog-manifest": {"minimal": _catalog(rows=0)[-1], "full": chunks[-1]},
        "psf-model": {"minimal": _analytic_psf(), "full": _pixel_psf()},
        "exposure-status": {"minimal": _failed_status(), "full": _full_status()},
    }


def _minimal_event() -> ExposureReady:
    return ExposureReady(
        event_id=IDENTITY.event_id,
        instrument=IDENTITY.instrument,
        exposure=IDENTITY.exposure,
        detector=IDENTITY.detector,
        uri="/data/democam/2026-01-31/000042-03.fits",
        created_at=MOMENT,
    )


def _full_event() -> ExposureReady:
    return ExposureReady(
        event_id=IDENTITY.event_id,
        instrument=IDENTITY.instrument,
        exposure=IDENTITY.exposure,
        detector=IDENTITY.detector,
        uri="s3://democam/2026-01-31/000042-03.fits",
        uris=("s3://democam/2026-01-31/000042-03.weight.fits",),
        checksum=DIGEST,
        size_bytes=201_352_320,
        band="r",
        exposure_time=30.0,
        mid_time=61071.13480238,
        ra=150.11916667,
        dec=2.20583333,
        created_at=MOMENT,
        config_digest=DIGEST,
        tense="test",
    )


def _minimal_quality() -> PsfQuality:
    return PsfQuality(
        **IDENTITY.fields(),
        outcome="degraded",
        reasons=(
            Reason(
                code="too_few_psf_stars",
                values={"stars": 0, "candidates": 2, "needed": 3},
                message="0 usable stars of 2 candidates are too few for the PSF model (at least 3)",
            ),
        ),
        provenance=PROVENANCE,
    )


def _full_quality() -> PsfQuality:
    x, y = np.meshgrid(np.linspace(256, 3840, 8), np.linspace(256, 3840, 8))
    u, v = (x - 2048) / 2048, (y - 2048) / 2048
    xx, yy, xy = 2.25 + 0.05 * u, 2.2 + 0.04 * v, 0.02 + 0.01 * u * v
    points = {
        name: tuple(round(value, 4) for value in values.ravel().tolist())
        for name, values in {"x": x, "y": y, "ixx": xx, "iyy": yy, "ixy": xy}.items()
    }
    statistics = SummaryStatistics.from_values(
        {
            "psf_sigma": 1.4915,
            "psf_ixx": 2.25,
            "psf_iyy": 2.2,
            "psf_ixy": 0.02,
            "psf_area": 29.6,
            "psf_trace_radius_delta": 0.031,
            "n_psf_star": 148,
            "psf_star_delta_e1_median": -0.0004,
            "psf_star_delta_e2_median": 0.0003,
            "psf_star_delta_size_scatter": 0.0061,
            "star_e_median": 0.021,
            "max_dist_to_nearest_psf": 402.5,
            "ra_corners": (150.0, 150.23, 150.23, 150.0),
            "dec_corners": (2.09, 2.09, 2.32, 2.32),
            "ra": 150.11916667,
            "dec": 2.20583333,
            "pixel_scale": 0.2,
            "exp_time": 30.0,
            "zero_point": float("nan"),
            "sky_bg": 812.4,
            "sky_noise": 21.7,
            "mean_var": 471.2,
        }
    )
    return PsfQuality(
        **IDENTITY.fields(),
        outcome="degraded",
        reasons=(
            Reason(
                code="aperture_correction",
                values={"stars": 1, "flux": "base_GaussianFlux", "needed": 2},
                message="1 stars for the aperture correction of base_GaussianFlux, at least 2 are needed",
            ),
        ),
        exposure_time=30.0,
        mid_time=61071.13480238,
        width=4096,
        height=4096,
        image_unit="adu",
        psf_fwhm=3.5122,
        seeing=0.7024,
        psf_e1=0.0112,
        psf_e2=0.009,
        psf_fwhm_spread=0.021,
        psf_kind="psfex",
        psf_spatial_order=2,
        psf_chi2=1.07,
        n_psf_candidates=191,
        n_psf_used=148,
        n_psf_reserved=38,
        n_sources=1612,
        n_cosmic_rays=214,
        cosmic_ray_fraction=0.00018,
        star_cosmic_ray_fraction=0.004,
        bad_pixel_fraction=0.0021,
        aperture_correction=1.021,
        aperture_correction_scatter=0.006,
        statistics=statistics,
        psf_grid=PsfGrid(**points),
        reserved_stars=ReservedStarResiduals(
            n_stars=38,
            size_median=0.0008,
            size_scatter=0.0052,
            e1_median=-0.0002,
            e1_scatter=0.0068,
            e2_median=0.0001,
            e2_scatter=0.0071,
            chi2_median=1.09,
        ),
        grade="yellow",
        grade_reasons=(Reason(code="seeing", values={"limit": 0.7, "value": 0.7024}),),
        timings=(
            StageTiming(stage="read", cpu=0.081, wall=0.083),
            StageTiming(stage="characterize", cpu=1.124, wall=1.131),
            StageTiming(stage="encode", cpu=0.012, wall=0.012),
        ),
        provenance=PROVENANCE,
    )


def _catalog(rows: int) -> list[Message]:
    columns = (
        CatalogColumn(name="id", dtype="<i8", doc="unique identifier"),
        CatalogColumn(name="calib_psf_used", dtype="?", doc="survived in the PSF fit"),
        CatalogColumn(name="base_SdssCentroid_x", dtype="<f8", unit="pixel", doc="centroid along rows"),
        CatalogColumn(name="base_SdssCentroid_y", dtype="<f8", unit="pixel", doc="centroid along columns"),
        CatalogColumn(name="base_PsfFlux_instFlux", dtype="<f8", unit="count", doc="PSF fit flux"),
        CatalogColumn(name="base_PsfFlux_instFluxErr", dtype="<f4", unit="count", doc="1-sigma error"),
        CatalogColumn(name="base_PsfFlux_flag", dtype="?", doc="the flux could not be measured"),
        CatalogColumn(name="base_PsfFlux_npixels", dtype="<i4", unit="pixel", doc="pixels in the fit"),
    )
    number = np.arange(rows)
    flux = 1000.0 * 1.125**number
    flux[1:2] = np.nan
    data = {
        "id": (np.int64(42) << 32) + 1 + number,
        "calib_psf_used": number % 3 == 0,
        "base_SdssCentroid_x": 100.25 + 96.5 * number,
        "base_SdssCentroid_y": 3900.75 - 64.125 * number,
        "base_PsfFlux_instFlux": flux,
        "base_PsfFlux_instFluxErr": np.full(rows, 31.5, np.float32),
        "base_PsfFlux_flag": np.isnan(flux),
        "base_PsfFlux_npixels": np.full(rows, 1681, np.int32),
    }
    encoded = encode_catalog(
        columns,
        data,
        identity=IDENTITY,
        provenance=PROVENANCE,
        aliases={"slot_PsfFlux": "base_PsfFlux", "slot_Centroid": "base_SdssCentroid"},
        metadata={"NOISE_SEED_MULTIPLIER": 1, "BASE_CIRCULARAPERTUREFLUX_RADII": [3.0, 4.5, 6.0]},
        exposure_time=30.0,
        mid_time=61071.13480238,
        outcome="degraded",
        time=MOMENT,
    )
    return [decode(message.value) for message in encoded]


def _analytic_psf() -> Message:
    model = PsfModel(
        **IDENTITY.fields(),
        kind="gaussian",
        width=25,
        height=25,
        fwhm=3.5122,
        parameters={"sigma": 1.4915},
        recipe="exp(-r^2/(2 sigma^2)) at pixel centres, divided by its sum",
        provenance=PROVENANCE,
    )
    return decode(encode_psf_model(model, {}, time=MOMENT)[0].value)


def _pixel_psf() -> Message:
    axis = 0.5 * (np.arange(21) - 10)
    radius2 = axis[:, None] ** 2 + axis**2
    core = np.exp(-radius2 / 4.5).astype(np.float32)
    slope = (radius2 * core / 90).astype(np.float32)
    model = PsfModel(
        **IDENTITY.fields(),
        kind="psfex",
        width=11,
        height=11,
        sampling=0.5,
        resampling="lanczos5",
        x_offset=2047.5,
        x_scale=4096.0,
        y_offset=2047.5,
        y_scale=4096.0,
        x_powers=(0, 1, 0),
        y_powers=(0, 0, 1),
        average_x=2011.3,
        average_y=2077.9,
        image_width=4096,
        image_height=4096,
        fwhm=3.5122,
        n_stars=148,
        chi2=1.07,
        outcome="degraded",
        recipe=(
            "sum basis[t] u^x_powers[t] v^y_powers[t]; resample with step 1/sampling; divide by the sum. "
            "At (x_offset, y_offset) the sum before division is that of basis[0]."
        ),
        provenance=PROVENANCE,
    )
    return decode(encode_psf_model(model, {"basis": np.stack([core, slope, -slope])}, time=MOMENT)[0].value)


def _failed_status() -> ExposureStatus:
    return ExposureStatus(
        event_id=IDENTITY.event_id,
        config_digest=DIGEST,
        outcome="failed",
        reasons=(
            Reason(
                code="malformed_message",
                values={"message_type": "exposure-ready", "detail": "exposure: Field required"},
                message="malformed exposure-ready message: exposure: Field required",
            ),
        ),
        attempts=0,
        source=SourcePosition(topic="streamchar.exposure-ready.v1", partition=0, offset=4711),
        published_at=MOMENT,
        provenance=PROVENANCE,
    )


def _full_status() -> ExposureStatus:
    key = f"{IDENTITY.instrument}/{IDENTITY.exposure}/{IDENTITY.detector}"
    return ExposureStatus(
        **IDENTITY.fields(),
        outcome="degraded",
        reasons=(Reason(code="aperture_correction", values={"stars": 1, "needed": 2}),),
        attempts=2,
        source=SourcePosition(topic="streamchar.exposure-ready.v1", partition=5, offset=1042),
        created_at=MOMENT,
        received_at=MOMENT.replace(microsecond=930000),
        published_at=MOMENT.replace(second=17),
        timings=(StageTiming(stage="characterize", cpu=1.124, wall=1.131),),
        products=(
            ProductDescription(
                product="psf-quality", topic="streamchar.psf-quality.v1", key=key, messages=1, size_bytes=6210
            ),
            ProductDescription(
                product="source-catalog",
                topic="streamchar.source-catalog.v1",
                partition=2,
                key=key,
                messages=4,
                rows=9214,
                size_bytes=2_611_047,
                digest=DIGEST,
            ),
            ProductDescription(
                product="exposure",
                size_bytes=201_352_320,
                digest=DIGEST,
                uri="s3://products/2026-01-31/000042-03.fits",
            ),
        ),
        provenance=PROVENANCE,
    )
