"""base_PixelFlags: which mask planes touch a source and its centre (reference: measurement.md section 10)."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration
from streamchar.kernels import footprint_bits, window_bits

STANDARD = {
    "EDGE": "edge",
    "NO_DATA": "nodata",
    "INTRP": "interpolated",
    "SAT": "saturated",
    "CR": "cr",
    "BAD": "bad",
    "SUSPECT": "suspect",
}
"""Flag suffix of each plane that always has flags."""

CENTRE_HALF_WIDTH = 1
"""The centre is the 3 x 3 block around the centroid's pixel."""

_FAR = 2.0**40


class PixelFlagsConfig(Configuration):
    """Settings of base_PixelFlags."""

    masks_fp_center: tuple[str, ...] = ()
    """Further planes with flags for the centre, besides the standard ones."""
    masks_fp_anywhere: tuple[str, ...] = ()
    """Further planes with a flag for the whole footprint, besides the standard ones."""


class PixelFlags(Plugin[PixelFlagsConfig]):
    """Flags for mask planes on any pixel of the footprint, and on any or all pixels of the central 3 x 3 block.

    A standard plane that the exposure does not have is taken as empty; a configured one must exist.
    """

    name = "base_PixelFlags"
    config_class = PixelFlagsConfig

    @property
    def columns(self) -> tuple[Column, ...]:
        """General flags, then the standard planes', then the configured planes'."""
        prefix, standard = f"{self.name}_flag", STANDARD.items()
        return (
            flag(prefix, "the flags could not be evaluated"),
            flag(f"{prefix}_offimage", "the centroid is off the image"),
            *(
                flag(f"{prefix}_{suffix}", f"plane {plane} on a pixel of the footprint")
                for plane, suffix in standard
            ),
            *(
                flag(f"{prefix}_{suffix}Center", f"plane {plane} on a central pixel")
                for plane, suffix in standard
            ),
            *(
                flag(f"{prefix}_{suffix}CenterAll", f"plane {plane} on all central pixels")
                for plane, suffix in standard
            ),
            *(
                flag(f"{prefix}_{plane.lower()}{where}", f"plane {plane} on {pixels}")
                for plane in self.config.masks_fp_center
                if plane not in STANDARD
                for where, pixels in (("Center", "a central pixel"), ("CenterAll", "all central pixels"))
            ),
            *(
                flag(f"{prefix}_{plane.lower()}", f"plane {plane} on a pixel of the footprint")
                for plane in self.config.masks_fp_anywhere
                if plane not in STANDARD
            ),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill all flags."""
        exposure, spans = context.exposure, context.footprints
        catalog, prefix = context.catalog, f"{self.name}_flag"
        anywhere = footprint_bits(exposure.mask, spans.span_y, spans.span_x0, spans.span_x1, spans.span_start)
        # The slot itself, not the peak in its place: a source without centroid has no centre to look at.
        x, y = (catalog[f"{self.slots.centroid}_{axis}"] for axis in "xy")
        finite = np.isfinite(x) & np.isfinite(y)
        column, row = (
            np.where(finite, np.clip(np.floor(p + 0.5), -_FAR, _FAR), -1).astype(np.int64) for p in (x, y)
        )
        touched, covered = window_bits(exposure.mask, column, row, CENTRE_HALF_WIDTH)
        touched, covered = np.where(finite, touched, 0), np.where(finite, covered, 0)
        # Most planes are on no source at all.
        present = int(np.bitwise_or.reduce(anywhere | touched))
        centre, whole = self.config.masks_fp_center, self.config.masks_fp_anywhere
        bits = {plane: exposure.present_bits(plane) for plane in STANDARD}
        bits |= {plane: exposure.bits(plane) for plane in (*centre, *whole) if plane not in STANDARD}
        for where, found, further in (
            ("", anywhere, whole),
            ("Center", touched, centre),
            ("CenterAll", covered, centre),
        ):
            for plane in (*STANDARD, *further):
                if bits[plane] & present:
                    name = f"{prefix}_{STANDARD.get(plane, plane.lower())}{where}"
                    catalog[name] |= (found & bits[plane]) != 0
        catalog[prefix] |= ~finite
        height, width = exposure.shape
        off = ~((x >= -0.5) & (y >= -0.5) & (x < width - 0.5) & (y < height - 0.5))
        for suffix in ("offimage", "edge", "edgeCenter", "edgeCenterAll"):
            catalog[f"{prefix}_{suffix}"] |= off
