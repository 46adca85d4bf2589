"""Fields are strict, unknown is absent, identifiers follow from content."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from pydantic import ValidationError

from streamchar.characterize.errors import PsfWidthError
from streamchar.messages import (
    ExposureReady,
    ExposureStatus,
    ProductIdentity,
    Provenance,
    PsfQuality,
    Reason,
    SourcePosition,
    SummaryStatistics,
    event_id,
    known,
    position_id,
)

DIGEST = "sha256:" + "ab" * 32
IDENTITY = ProductIdentity("event", "DemoCam", 42, 3, DIGEST)
PROVENANCE = Provenance(software_version="1")
EVENT = {
    "event_id": "e",
    "instrument": "DemoCam",
    "exposure": 1,
    "detector": 2,
    "uri": "/data/1.fits",
    "created_at": "2026-01-31T00:00:00Z",
}


def quality(**fields):
    return PsfQuality(**{**IDENTITY.fields(), "outcome": "succeeded", "provenance": PROVENANCE, **fields})


def status(**fields):
    source = SourcePosition(topic="t", partition=0, offset=1)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    common = {"outcome": "failed", "provenance": PROVENANCE, "source": source, "published_at": moment}
    return ExposureStatus(**{**IDENTITY.fields(), **common, **fields})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("exposure", "1"),
        ("exposure", 1.0),
        ("exposure", True),
        ("exposure", -1),
        ("exposure", 2**63),
        ("instrument", "a/b"),
        ("instrument", ""),
        ("instrument", "a\n"),
        ("instrument", 7),
        ("uri", ""),
        ("checksum", "md5:00"),
        ("exposure_time", "30"),
        ("exposure_time", float("nan")),
        ("exposure_time", float("inf")),
        ("exposure_time", True),
        ("ra", 360.0),
        ("dec", 91),
        ("created_at", 1700000000),
        ("created_at", "2026-01-31T00:00:00"),
        ("created_at", "yesterday"),
        ("created_at", "0001-01-01T00:00:00+23:59"),
        ("tense", "future"),
    ],
)
def test_a_wrong_value_is_refused(field, value):
    with pytest.raises(ValidationError):
        ExposureReady.model_validate({**EVENT, field: value})


@pytest.mark.parametrize("field", sorted(EVENT))
def test_every_required_field_is_required(field):
    with pytest.raises(ValidationError):
        ExposureReady.model_validate({name: value for name, value in EVENT.items() if name != field})


def test_unknown_fields_of_a_newer_minor_are_ignored():
    event = ExposureReady.model_validate({**EVENT, "airmass": 1.2, "schema_version": "1.7"})
    assert event.schema_version == "1.7"
    assert not hasattr(event, "airmass")


def test_messages_cannot_be_changed():
    with pytest.raises(ValidationError):
        quality().psf_fwhm = 3.0


def test_times_are_kept_in_utc():
    local = datetime(2026, 1, 31, 5, tzinfo=timezone(timedelta(hours=3)))
    event = ExposureReady.model_validate({**EVENT, "created_at": local})
    assert event.created_at == local
    assert event.created_at.utcoffset() == timedelta(0)


def test_an_empty_band_is_unknown():
    assert ExposureReady.model_validate({**EVENT, "band": ""}).band is None


def test_statistics_drop_what_is_not_known():
    statistics = SummaryStatistics.from_values(
        {
            "psf_sigma": 1.5,
            "zero_point": float("nan"),
            "mag_lim": None,
            "ra_corners": (1.0, 2.0, float("nan"), 4.0),
        }
    )
    assert statistics.model_dump(exclude_none=True) == {"psf_sigma": 1.5}


def test_statistics_refuse_unknown_names():
    with pytest.raises(KeyError, match="seing"):
        SummaryStatistics.from_values({"seing": 1.0})


def test_known():
    assert [known(value) for value in (1.0, None, float("nan"), float("-inf"))] == [1.0, None, None, None]


def test_a_reason_carries_the_values_of_an_error():
    reason = Reason.from_error(PsfWidthError(sigma=float("nan")))
    assert reason.code == "psf_width"
    assert reason.values == {}
    assert reason.message == "the PSF width is nan pixels; a positive, finite value is needed"


def test_a_redelivery_has_the_same_identifier():
    assert quality().message_id == quality(psf_fwhm=2.0).message_id
    assert UUID(quality().message_id).version == 5


@pytest.mark.parametrize(
    "change",
    [{"instrument": "Other"}, {"exposure": 43}, {"detector": 4}, {"config_digest": "sha256:" + "cd" * 32}],
)
def test_another_product_has_another_identifier(change):
    assert quality(**change).message_id != quality().message_id


def test_a_given_identifier_is_kept():
    assert quality(message_id="mine").message_id == "mine"


def test_status_identifier_depends_on_the_event_and_its_position_alone():
    identifiers = {
        status().message_id,
        status(event_id="other").message_id,
        status(source={"topic": "t", "partition": 0, "offset": 77}).message_id,
        status(source={"topic": "t", "partition": 1, "offset": 77}).message_id,
    }
    assert len(identifiers) == 4
    assert status(attempts=3, outcome="expired").message_id == status().message_id
    assert status(config_digest="sha256:" + "b" * 64).message_id == status().message_id


def test_a_status_without_identity_is_keyed_by_its_event():
    identifier = position_id("topic", 3, 99)
    made = status(event_id=identifier, instrument=None, exposure=None, detector=None)
    assert made.key == identifier
    assert identifier != position_id("topic", 3, 100)


def test_event_identifiers_are_reproducible():
    assert event_id("DemoCam", 1, 2) == event_id("DemoCam", 1, 2) != event_id("DemoCam", 12, 2)


def test_a_quality_record_stays_small():
    from streamchar.messages.codec import pack
    from streamchar.messages.examples import make_examples

    assert len(pack(make_examples()["psf-quality"]["full"])) < 10_000
    assert len(pack(make_examples()["exposure-status"]["full"])) < 2_000
    assert len(pack(make_examples()["exposure-ready"]["full"])) < 2_000
