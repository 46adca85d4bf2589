# Signatures of the compiled kernels; their docstrings are in the C++ sources.

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_I32: TypeAlias = NDArray[np.int32]

def paint_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, value: _I32) -> None: ...
def or_spans(plane: _I32, y: _I32, x0: _I32, x1: _I32, bits: int) -> None: ...
