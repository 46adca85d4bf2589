"""Identifiers: packing, uniqueness, limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.characterize.identifiers import (
    IdentifierOverflowError,
    IdentifierRangeError,
    IdGenerator,
    IdGeneratorConfig,
    PackerConfig,
    SourceIdentity,
)
from streamchar.errors import ConfigurationError
from streamchar.image import Identity


def config(n_detectors=189, n_observations=10_000_000, **release):
    return IdGeneratorConfig(
        packer=PackerConfig(n_detectors=n_detectors, n_observations=n_observations), **release
    )


def test_without_limits_ids_are_counters():
    ids = IdGenerator.for_exposure(Identity(exposure=77, detector=3))
    assert ids.catalog_id == 0
    assert ids.source_ids(4).tolist() == [1, 2, 3, 4]
    assert ids.source_ids(0).dtype == np.int64
    assert ids.unpack(4) == SourceIdentity(0, 0, 0, 4)


def test_one_limit_is_no_limit():
    half = IdGeneratorConfig(packer=PackerConfig(n_detectors=9))
    assert IdGenerator.for_exposure(Identity(exposure=1), half) == IdGenerator()


def test_packing_follows_the_reference():
    # 4 detectors x 100 exposures: 9 bits; 64 releases: 6 bits; 48 bits are left to count.
    ids = IdGenerator.for_exposure(Identity(exposure=13, detector=2), config(4, 100, release_id=5))
    assert ids.catalog_id == 2 + 4 * 13 + 5 * 2**9
    assert ids.counter_bits == 48
    assert ids.source_ids(2).tolist() == [(ids.catalog_id << 48) + 1, (ids.catalog_id << 48) + 2]


@given(
    n_detectors=st.integers(1, 400),
    n_observations=st.integers(1, 10**7),
    n_releases=st.integers(1, 64),
    count=st.integers(1, 5000),
    data=st.data(),
)
def test_ids_are_positive_increasing_and_say_where_they_come_from(
    n_detectors, n_observations, n_releases, count, data
):
    identity = Identity(
        exposure=data.draw(st.integers(0, n_observations - 1)),
        detector=data.draw(st.integers(0, n_detectors - 1)),
    )
    release = data.draw(st.integers(0, n_releases - 1))
    ids = IdGenerator.for_exposure(
        identity, config(n_detectors, n_observations, release_id=release, n_releases=n_releases)
    )
    made = ids.source_ids(count)
    assert made.dtype == np.int64
    assert made[0] > 0
    assert (np.diff(made) == 1).all()
    assert ids.unpack(made[-1]) == SourceIdentity(release, identity.exposure, identity.detector, count)


def test_ids_of_a_whole_small_survey_are_unique():
    made = [
        IdGenerator.for_exposure(
            Identity(exposure=exposure, detector=detector), config(3, 4, release_id=release, n_releases=3)
        ).source_ids(5)
        for release in range(3)
        for exposure in range(4)
        for detector in range(3)
    ]
    assert len(np.unique(np.concatenate(made))) == 3 * 4 * 3 * 5


@pytest.mark.parametrize(("exposure", "detector"), [(100, 0), (-1, 0), (0, 4), (0, -1)])
def test_numbers_beyond_the_limits_are_refused(exposure, detector):
    with pytest.raises(IdentifierRangeError, match="out of range") as caught:
        IdGenerator.for_exposure(Identity(exposure=exposure, detector=detector), config(4, 100))
    assert caught.value.values["value"] in (exposure, detector)


def test_more_sources_than_bits_are_refused():
    ids = IdGenerator(catalog_id=1, packed_bits=61, counter_bits=2)
    assert ids.source_ids(3).tolist() == [5, 6, 7]
    with pytest.raises(IdentifierOverflowError) as caught:
        ids.source_ids(4)
    assert caught.value.values == {"sources": 4, "limit": 3, "bits": 2}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("release_id=64", "below n_releases"),
        ("release_id=-1", "release_id"),
        ("packer.n_detectors=0", "n_detectors"),
        ("packer={n_detectors=1000, n_observations=1000000000000000}", "bits"),
    ],
)
def test_settings_that_leave_no_room_are_refused(override, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        IdGeneratorConfig().with_overrides(override)
