# Signatures of the compiled kernels; their docstrings are in the C++ sources.

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_I32: TypeAlias = NDArray[np.int32]
_I64: TypeAlias = NDArray[np.int64]
_F32: TypeAlias = NDArray[np.float32]
_F64: TypeAlias = NDArray[np.float64]
_Real: TypeAlias = NDArray[np.float32] | NDArray[np.float64]

def paint_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, value: _I32) -> None: ...
def or_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, bits: int) -> None: ...
def sdss_shape(
    stamps: _Real,
    x: _F64,
    y: _F64,
    *,
    max_iter: int = 100,
    max_shift: float = 2.0,
    tol1: float = 1e-5,
    tol2: float = 1e-4,
    background: float = 0.0,
    negative: bool = False,
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _I32]: ...
def sdss_shape_image(
    image: _Real,
    x: _F64,
    y: _F64,
    *,
    max_iter: int = 100,
    max_shift: float = 2.0,
    tol1: float = 1e-5,
    tol2: float = 1e-4,
    background: float = 0.0,
    negative: bool = False,
) -> tuple[_F64, _F64, _F64, _F64, _F64, _F64, _I32]: ...
def smooth(plane: _F32, taps: _F32, out: _F32) -> None: ...
def detect(
    image: _F32, variance: _F32 | None, value: float, include: float, min_pixels: int, both: bool
) -> tuple[tuple[_I32, _I32, _I32, _I64], tuple[_I32, _I32, _I32, _I64]]: ...
def find_peaks(
    image: _F32, y: _I32, x0: _I32, x1: _I32, start: _I64, negative: bool
) -> tuple[_I32, _I32, _F32, _I64]: ...
def refresh_peaks(
    image: _F32,
    variance: _F32 | None,
    level: _F32,
    value: float,
    include: float,
    min_pixels: int,
    negative: bool,
    y: _I32,
    x0: _I32,
    x1: _I32,
    start: _I64,
    peak_x: _I32,
    peak_y: _I32,
    peak_value: _F32,
    peak_start: _I64,
    max_simple: int,
) -> tuple[_I32, _I32, _F32, _I64]: ...
def merge_peaks(
    peak_x: _I32, peak_y: _I32, peak_value: _F32, peak_start: _I64, owner: _I64, owners: int
) -> tuple[_I64, _I64]: ...
def grow_merging(
    y: _I32, x0: _I32, x1: _I32, start: _I64, height: int, width: int, half_widths: _I32
) -> tuple[_I32, _I32, _I32, _I64, _I64]: ...
def grow_each(
    y: _I32, x0: _I32, x1: _I32, start: _I64, height: int, width: int, half_widths: _I32
) -> tuple[_I32, _I32, _I32, _I64]: ...
def lanczos_resample(images: _F64, x: _F64, y: _F64, step: float, size: int, order: int) -> _F64: ...
def psf_draw(
    components: _F64, basis: _F64, dx: _F64, dy: _F64, size: int, scale: float, order: int
) -> _F64: ...
def psf_draw_transposed(
    stamps: _F64, basis: _F64, dx: _F64, dy: _F64, grid: int, scale: float, order: int
) -> _F64: ...
def psf_normal_product(
    components: _F64, basis: _F64, dx: _F64, dy: _F64, weights: _F64, scale: float, order: int
) -> _F64: ...
