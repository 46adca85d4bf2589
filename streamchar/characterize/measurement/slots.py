"""Slots: which plugin's result other plugins take as the centroid, the shape and the standard fluxes."""

from __future__ import annotations

from collections.abc import Iterator

from streamchar.configuration import Configuration


class Slots(Configuration):
    """Column prefixes behind the ``slot_`` names; an empty name leaves a slot unused."""

    centroid: str = "base_SdssCentroid"
    """Position used by all other plugins: the name of a plugin that is run."""
    shape: str = "ext_shapeHSM_HsmSourceMoments"
    """Second moments used by other plugins: the name of a plugin that is run."""
    psf_shape: str = "base_SdssShape_psf"
    """Second moments of the PSF at the source; an alias only when the plugin is run."""
    ap_flux: str = "base_CircularApertureFlux_12_0"
    """Aperture flux."""
    model_flux: str = "base_GaussianFlux"
    """Flux of an extended model."""
    psf_flux: str = "base_PsfFlux"
    """Point-source flux."""
    gaussian_flux: str = "base_GaussianFlux"
    """Flux under an adaptive Gaussian."""
    calib_flux: str = "base_CircularApertureFlux_12_0"
    """Flux that aperture corrections refer to, until the normalised calibration flux takes its place."""

    def exact(self) -> Iterator[tuple[str, str]]:
        """Field name and value of the slots that must name a plugin exactly."""
        yield "centroid", self.centroid
        if self.shape:
            yield "shape", self.shape

    def fluxes(self) -> Iterator[tuple[str, str]]:
        """Field name and value of the flux slots in use."""
        for field in ("ap_flux", "model_flux", "psf_flux", "gaussian_flux", "calib_flux"):
            value = getattr(self, field)
            if value:
                yield field, value

    def aliases(self) -> dict[str, str]:
        """Column aliases of the slots in use, without the PSF shape."""
        names = {
            "slot_Centroid": self.centroid,
            "slot_Shape": self.shape,
            "slot_ApFlux": self.ap_flux,
            "slot_ModelFlux": self.model_flux,
            "slot_PsfFlux": self.psf_flux,
            "slot_GaussianFlux": self.gaussian_flux,
            "slot_CalibFlux": self.calib_flux,
        }
        return {alias: name for alias, name in names.items() if name}
