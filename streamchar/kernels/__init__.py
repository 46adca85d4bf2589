"""Compiled loops: arrays in, arrays out, no policy inside.

Each kernel is one C++ file beside this one; its NumPy twin in ``tests/unit/kernels`` defines what it must return.
"""

from streamchar.kernels._kernels import or_spans, paint_spans, sdss_shape, sdss_shape_image

__all__ = ["or_spans", "paint_spans", "sdss_shape", "sdss_shape_image"]
