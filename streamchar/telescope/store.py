"""Writes planned exposures to disk: truth first, then the exposure, each whole or not at all."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from streamchar.image.exposure import Exposure
from streamchar.image.fits import write_exposure
from streamchar.messages.exposure_ready import ExposureReady
from streamchar.messages.identifiers import event_id
from streamchar.telescope.night import PlannedExposure
from streamchar.telescope.truth import truth_path, write_truth

TRUNCATED_FRACTION = 0.4
"""How much of a truncated file is there."""


@dataclass(frozen=True, slots=True)
class StoredExposure:
    """An exposure on disk.

    Attributes
    ----------
    plan
        What it is.
    path
        Its file; not there when its fault is to be missing.
    checksum
        ``"sha256:"`` and the digest of the whole file, ``None`` when it was never written.
    size
        Size of the whole file in bytes, ``None`` when it was never written.
    fwhm
        True FWHM in the middle of the detector, arcseconds.
    cpu
        CPU seconds that it took to make and write.
    """

    plan: PlannedExposure
    path: Path
    checksum: str | None
    size: int | None
    fwhm: float
    cpu: float

    def event(self) -> ExposureReady:
        """Return the event that announces it, created now."""
        plan, camera = self.plan, self.plan.scene.camera
        detector = plan.scene.detector
        return ExposureReady(
            event_id=event_id(camera.name, plan.exposure, detector),
            instrument=camera.name,
            exposure=plan.exposure,
            detector=detector,
            uri=self.path.absolute().as_uri(),
            checksum=self.checksum,
            size_bytes=self.size,
            band=plan.scene.band,
            exposure_time=plan.scene.exposure_time,
            mid_time=plan.mid_time,
            ra=plan.pointing.ra,
            dec=plan.pointing.dec,
            created_at=datetime.now(UTC),
        )


def store(plan: PlannedExposure, directory: Path) -> StoredExposure:
    """Make a planned exposure and write it with its truth into a directory.

    Other processes never see a partial file: both are written under hidden temporary names, flushed to disk and
    renamed, the truth first. A planned fault is part of that: a truncated file appears truncated at once, and its
    checksum is that of the whole one, as after a broken transfer.

    Raises
    ------
    MissingSimulatorError
        Without GalSim.
    OSError
        When the directory cannot be written to.
    """
    start = time.process_time()
    simulated = plan.simulate()
    exposure, truth = simulated.exposure, replace(simulated.truth, fault=plan.fault)
    if plan.fault == "nan":
        exposure.image.fill(np.nan)
    path = directory / plan.file_name
    write_truth(truth_path(path), truth)
    checksum = size = None
    if plan.fault == "truncated":
        checksum, size = _write_truncated(path, exposure)
    elif plan.fault != "missing":
        write_exposure(path, exposure)
        checksum, size = _checksum(path), path.stat().st_size
    fwhm = truth.psf.fwhm * plan.scene.camera.pixel_scale
    return StoredExposure(plan, path, checksum, size, fwhm, time.process_time() - start)


def _write_truncated(path: Path, exposure: Exposure) -> tuple[str, int]:
    """Let the first part of the file appear; return checksum and size of the whole."""
    whole = path.with_name(f".{path.name}.whole")
    try:
        write_exposure(whole, exposure)
        checksum, size = _checksum(whole), whole.stat().st_size
        with whole.open("r+b") as file:
            file.truncate(int(TRUNCATED_FRACTION * size))
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)
    return checksum, size


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
