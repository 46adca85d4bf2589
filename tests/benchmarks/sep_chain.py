"""Background, detection, Kron, windowed positions and apertures with sep alone. Run as a module, for its CPU seconds."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import sep

from tests.benchmarks.peers import APERTURE_RADII, gaussian_kernel, matched_threshold
from tests.benchmarks.processes import answer, peak_bytes


def characterize(plain: str, fwhm: float, gain: float) -> dict[str, Any]:
    """Run the chain on one image; return CPU seconds, memory and the number of sources."""
    from astropy.io import fits

    start = time.process_time()
    image = fits.getdata(plain).astype(np.float32)
    background = sep.Background(image, bw=128, bh=128, fw=3, fh=3)
    background.subfrom(image)
    kernel = gaussian_kernel(fwhm).astype(np.float32)
    sep.set_extract_pixstack(1_000_000)
    found = sep.extract(
        image,
        matched_threshold(fwhm),
        err=background.globalrms,
        minarea=1,
        filter_kernel=kernel,
        filter_type="conv",
        deblend_nthresh=32,
        deblend_cont=0.005,
    )
    x, y, noise = found["x"], found["y"], background.globalrms
    sep.winpos(image, x, y, np.full(len(x), fwhm / 2.3548))
    a, b, theta = found["a"], found["b"], np.clip(found["theta"], -np.pi / 2, np.pi / 2)
    radius, _ = sep.kron_radius(image, x, y, a, b, theta, 6.0)
    usable = np.isfinite(radius) & (radius > 0)
    places = (values[usable] for values in (x, y, a, b, theta))
    sep.sum_ellipse(image, *places, 2.5 * radius[usable], err=noise, gain=gain)
    for aperture in APERTURE_RADII:
        sep.sum_circle(image, x, y, aperture, err=noise, gain=gain)
    return {"cpu": time.process_time() - start, "peak_bytes": peak_bytes(), "sources": len(found)}


if __name__ == "__main__":
    answer(characterize(**json.loads(sys.argv[1])))
