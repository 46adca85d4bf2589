"""A quantity that varies smoothly over the exposure."""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Field(Protocol):
    """A scalar function of position, for example an aperture correction."""

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Values at pixel positions, float64 of the positions' shape."""
        ...
