# Signatures of the compiled kernels; their docstrings are in the C++ sources.

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_I32: TypeAlias = NDArray[np.int32]
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
