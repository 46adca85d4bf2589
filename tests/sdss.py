"""The SDSS frame of tests/data as a three-plane exposure, and what SDSS itself says of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from streamchar.image import Exposure, Identity, Observation

FRAME = Path(__file__).parent / "data" / "sdss-6377-4-0399"
BANDS = "ugriz"
SOFT_BIAS = 1000.0
PLANES = {"INTRP": 1, "SAT": 2, "CR": 10}
"""Extension of the fpM file that lists each plane's pixels."""


@dataclass(frozen=True)
class SdssFrame:
    """One band of the field.

    ``psf_width`` is SDSS's effective PSF width in arcseconds; ``cosmic_rays`` the pixels SDSS interpolated as such.
    """

    exposure: Exposure
    psf_width: float
    cosmic_rays: np.ndarray


def read_frame(band="r", folder=FRAME):
    """Sky kept, soft bias removed; variance = image/gain + dark variance; SAT and INTRP set from SDSS's masks."""
    index = BANDS.index(band)
    with fits.open(next(folder.glob(f"fpC-*-{band}?-*.fit.gz"))) as hdus:
        header = hdus[0].header
        header.rename_keyword("RADECSYS", "RADESYS")
        image = hdus[0].data.astype(np.float32) - np.float32(SOFT_BIAS)
    with fits.open(next(folder.glob("psField-*.fit"))) as hdus:
        record = hdus[6].data[0]
        gain, dark_variance = float(record["gain"][index]), float(record["dark_variance"][index])
        psf_width = float(record["psf_width"][index])
    with fits.open(next(folder.glob(f"fpM-*-{band}?-*.fit"))) as hdus:
        planes = {name: _paint(hdus[extension].data, image.shape) for name, extension in PLANES.items()}
    with fits.open(next(folder.glob("tsField-*.fit"))) as hdus:
        start = float(hdus[1].data["mjd"][0][index])
    exposure_time = float(header["EXPTIME"])
    exposure = Exposure(
        image,
        np.zeros(image.shape, np.int32),
        (np.maximum(image, 0) / gain + dark_variance).astype(np.float32),
        wcs=WCS(header, naxis=2),
        identity=Identity(
            "SDSS", int(header["RUN"]) * 10000 + int(header["FRAME"]), int(header["CAMCOL"]), band
        ),
        observation=Observation(
            exposure_time=exposure_time,
            mid_time=start + 0.5 * exposure_time / 86400,
            gain=gain,
            read_noise=gain * dark_variance**0.5,
        ),
        source=f"SDSS {band}",
    )
    exposure.set_plane("INTRP", planes["INTRP"])
    exposure.set_plane("SAT", planes["SAT"])
    return SdssFrame(exposure, psf_width, planes["CR"])


def _paint(rows, shape):
    plane = np.zeros(shape, bool)
    for row in rows if rows is not None else ():
        spans = np.frombuffer(np.asarray(row["s"], np.uint8).tobytes(), ">i2")[
            : 3 * int(row["nspan"])
        ].reshape(-1, 3)
        for y, first, last in spans:
            plane[y, max(first, 0) : last + 1] = True
    return plane
