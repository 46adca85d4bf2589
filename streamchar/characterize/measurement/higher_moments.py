"""ext_shapeHSM_HigherOrderMomentsSource: third and fourth moments, for coma, trefoil and kurtosis."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin, PluginConfig
from streamchar.kernels import higher_moments

ORDERS = ("30", "21", "12", "03", "40", "31", "22", "13", "04")
"""Powers of the two coordinates, in the order of the kernel's columns."""


class HigherOrderMomentsSource(Plugin[PluginConfig]):
    """Moments of the pixels under the Gaussian weight of the shape slot, in coordinates that make the weight round.

    ``M_pq`` is the weighted mean of ``u^p v^q`` where (u, v) is the position relative to the weight's own centre (not the
    centroid slot, whose first moments do not vanish) times the symmetric inverse square root of the matrix of second moments (Zhang et al. 2022, arXiv:2107.05644). A Gaussian source has no
    third moments, ``M40 = M04 = 3/4`` and ``M22 = 1/4``.
    """

    name = "ext_shapeHSM_HigherOrderMomentsSource"
    centroid_alias = True
    shape_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """The moments and a flag."""
        return (
            *(
                Column(f"{self.name}_{order}", "<f8", "", f"standardised moment of order {order}")
                for order in ORDERS
            ),
            flag(f"{self.name}_flag", "the higher moments could not be measured"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill moments and flag."""
        centres, shapes = context.centres(), context.shapes()
        x, y = (context.catalog[f"{context.slots.shape}_{axis}"] for axis in "xy")
        moments = higher_moments(context.scene, x, y, shapes.xx, shapes.yy, shapes.xy)
        moments[~np.isfinite(moments).all(axis=1)] = np.nan
        for order, values in zip(ORDERS, moments.T, strict=True):
            context.catalog[f"{self.name}_{order}"] = values
        context.catalog[f"{self.name}_flag"] |= centres.flagged | shapes.flagged | np.isnan(moments[:, 0])
