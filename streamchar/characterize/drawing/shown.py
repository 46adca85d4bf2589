"""A figure that notebooks show by themselves. Imports matplotlib: imported only when something is drawn."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


class ShownFigure(Figure):
    """A white figure of its own canvas, in no window and in no global state.

    Parameters
    ----------
    width, height
        Inches.
    dpi
        Pixels per inch.
    """

    def __init__(self, width: float, height: float, dpi: float) -> None:
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
        super().__init__(figsize=(width, height), dpi=dpi, layout=layout, facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
