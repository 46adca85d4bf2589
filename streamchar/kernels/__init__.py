"""Compiled loops: arrays in, arrays out, no policy inside.

Each kernel is one C++ file beside this one; its NumPy twin in ``tests/unit/kernels`` defines what it must return.
"""

from streamchar.kernels._kernels import (
    detect,
    find_peaks,
    grow_each,
    grow_merging,
    lanczos_resample,
    merge_peaks,
    or_spans,
    paint_spans,
    psf_draw,
    psf_draw_transposed,
    psf_normal_product,
    refresh_peaks,
    sdss_shape,
    sdss_shape_image,
    smooth,
)

__all__ = [
    "detect",
    "find_peaks",
    "grow_each",
    "grow_merging",
    "lanczos_resample",
    "merge_peaks",
    "or_spans",
    "paint_spans",
    "psf_draw",
    "psf_draw_transposed",
    "psf_normal_product",
    "refresh_peaks",
    "sdss_shape",
    "sdss_shape_image",
    "smooth",
]
