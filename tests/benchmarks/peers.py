"""The same pixels through source-extractor, psfex and source-extractor again, with configuration files written here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.processes import CACHE, Usage, run

PACKAGES = {"source-extractor": "source-extractor", "psfex": "psfex"}
APERTURE_RADII = (3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0)
"""Pixels; the radii that streamchar measures by default."""

THRESHOLD = 5.0
KERNEL_SIZE = 7

VIGNET_PARAMETERS = (
    "NUMBER",
    "X_IMAGE",
    "Y_IMAGE",
    "FLUX_RADIUS",
    "FLUX_APER(1)",
    "FLUXERR_APER(1)",
    "ELONGATION",
    "FLAGS",
    "SNR_WIN",
    "VIGNET(35,35)",
)
MEASURED_PARAMETERS = (
    "NUMBER",
    "XWIN_IMAGE",
    "YWIN_IMAGE",
    "ERRX2WIN_IMAGE",
    "ERRY2WIN_IMAGE",
    "X2WIN_IMAGE",
    "Y2WIN_IMAGE",
    "XYWIN_IMAGE",
    "FLUX_AUTO",
    "FLUXERR_AUTO",
    "KRON_RADIUS",
    f"FLUX_APER({len(APERTURE_RADII)})",
    f"FLUXERR_APER({len(APERTURE_RADII)})",
    "FLUX_RADIUS",
    "FWHM_IMAGE",
    "BACKGROUND",
    "CLASS_STAR",
    "FLAGS",
)
PSF_PARAMETERS = (
    *MEASURED_PARAMETERS,
    "FLUX_PSF",
    "FLUXERR_PSF",
    "XPSF_IMAGE",
    "YPSF_IMAGE",
    "CHI2_PSF",
)


@dataclass(frozen=True, slots=True)
class Chain:
    """What three programs, one after the other, used.

    Attributes
    ----------
    steps
        By name, in order.
    sources
        Rows of the last catalogue.
    """

    steps: Mapping[str, Usage]
    sources: int

    @property
    def cpu(self) -> float:
        """CPU seconds of the three processes."""
        return sum(usage.cpu for usage in self.steps.values())

    @property
    def user(self) -> float:
        """User seconds of the three processes."""
        return sum(usage.user for usage in self.steps.values())

    @property
    def peak_bytes(self) -> int:
        """Largest resident size of any."""
        return max(usage.peak_bytes for usage in self.steps.values())


def run_chains(image: Path, fwhm: float, gain: float, saturation: float) -> dict[str, Chain]:
    """Extract stamps, model the PSF, extract again with apertures, Kron and windowed figures.

    Once more with a last step that measures the flux and place of every source with the model of the PSF besides.
    """
    folder = CACHE / "peers"
    folder.mkdir(exist_ok=True)
    write_files(folder, fwhm, gain, saturation)
    extract = ["source-extractor", str(image), "-c"]
    model = {
        "source-extractor 1": run([*extract, "stamps.sex"], folder),
        "psfex": run(["psfex", "stamps.cat", "-c", "default.psfex"], folder),
    }
    chains = {}
    for label, name in (("chain", "measure"), ("chain with PSF fluxes", "psf")):
        last = run([*extract, f"{name}.sex"], folder)
        chains[label] = Chain({**model, "source-extractor 2": last}, count_rows(folder / f"{name}.cat"))
    return chains


def write_files(folder: Path, fwhm: float, gain: float, saturation: float) -> None:
    """Write the configuration files of all steps."""
    common = {
        "CATALOG_TYPE": "FITS_LDAC",
        "DETECT_TYPE": "CCD",
        "DETECT_MINAREA": 1,
        "THRESH_TYPE": "RELATIVE",
        "DETECT_THRESH": f"{matched_threshold(fwhm):.4f}",
        "ANALYSIS_THRESH": f"{matched_threshold(fwhm):.4f}",
        "FILTER": "Y",
        "FILTER_NAME": "gauss.conv",
        "DEBLEND_NTHRESH": 32,
        "DEBLEND_MINCONT": 0.005,
        "CLEAN": "Y",
        "CLEAN_PARAM": 1.0,
        "WEIGHT_TYPE": "NONE",
        "SATUR_LEVEL": saturation,
        "GAIN": gain,
        "PIXEL_SCALE": 0.2,
        "SEEING_FWHM": fwhm * 0.2,
        "STARNNW_NAME": "default.nnw",
        "BACK_SIZE": 128,
        "BACK_FILTERSIZE": 3,
        "CHECKIMAGE_TYPE": "NONE",
        "VERBOSE_TYPE": "QUIET",
        "WRITE_XML": "N",
        "NTHREADS": 1,
    }
    diameters = ",".join(f"{2 * radius:g}" for radius in APERTURE_RADII)
    stamps = {"CATALOG_NAME": "stamps.cat", "PARAMETERS_NAME": "stamps.param", "PHOT_APERTURES": "24"}
    measured = {
        "CATALOG_NAME": "measure.cat",
        "PARAMETERS_NAME": "measure.param",
        "PHOT_APERTURES": diameters,
    }
    with_psf = {
        **measured,
        "CATALOG_NAME": "psf.cat",
        "PARAMETERS_NAME": "psf.param",
        "PSF_NAME": "stamps.psf",
    }
    psfex = {
        "BASIS_TYPE": "PIXEL_AUTO",
        "PSF_SAMPLING": 1.0,
        "PSF_SIZE": "41,41",
        "PSFVAR_KEYS": "X_IMAGE,Y_IMAGE",
        "PSFVAR_GROUPS": "1,1",
        "PSFVAR_DEGREES": 2,
        "SAMPLE_AUTOSELECT": "Y",
        "SAMPLE_FWHMRANGE": "1.5,12.0",
        "SAMPLE_VARIABILITY": 0.3,
        "SAMPLE_MINSN": 50,
        "SAMPLE_MAXELLIP": 0.3,
        "CHECKPLOT_TYPE": "NONE",
        "CHECKPLOT_DEV": "NULL",
        "CHECKIMAGE_TYPE": "NONE",
        "OUTCAT_TYPE": "NONE",
        "VERBOSE_TYPE": "QUIET",
        "WRITE_XML": "N",
        "NTHREADS": 1,
    }
    for name, settings in (
        ("stamps.sex", common | stamps),
        ("measure.sex", common | measured),
        ("psf.sex", common | with_psf),
        ("default.psfex", psfex),
    ):
        (folder / name).write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    for name, parameters in (
        ("stamps.param", VIGNET_PARAMETERS),
        ("measure.param", MEASURED_PARAMETERS),
        ("psf.param", PSF_PARAMETERS),
    ):
        (folder / name).write_text("\n".join(parameters) + "\n")
    kernel = gaussian_kernel(fwhm)
    rows = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in kernel)
    (folder / "gauss.conv").write_text(f"CONV NORM\n# Gaussian\n{rows}\n")
    shutil.copy("/usr/share/source-extractor/default.nnw", folder / "default.nnw")


def gaussian_kernel(fwhm: float, size: int = KERNEL_SIZE) -> np.ndarray:
    """Gaussian of unit sum, (size, size)."""
    x = np.arange(size) - size // 2
    profile = np.exp(-4 * np.log(2) * (x / fwhm) ** 2)
    kernel = np.outer(profile, profile)
    return np.asarray(kernel / kernel.sum())


def matched_threshold(fwhm: float) -> float:
    """5 sigma of the filtered image in units of the unfiltered noise, which is what source-extractor compares with."""
    return float(THRESHOLD * np.sqrt((gaussian_kernel(fwhm) ** 2).sum()))


def count_rows(catalogue: Path) -> int:
    """Rows of the objects' table of a FITS_LDAC catalogue."""
    from astropy.io import fits

    return int(fits.getheader(catalogue, "LDAC_OBJECTS")["NAXIS2"])
