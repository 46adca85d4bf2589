"""Settings of the simulated camera: the detectors, one scene, a whole night."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamchar.configuration import Configuration
from streamchar.telescope.bands import BandName
from streamchar.telescope.polynomial import Coefficients


class CameraConfig(Configuration):
    """The detectors, all alike, in a rectangle."""

    name: str = Field("SIMCAM", min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    """Instrument name in events and headers."""
    rows: int = Field(2, ge=1, le=64)
    """Rows of detectors."""
    columns: int = Field(2, ge=1, le=64)
    """Columns of detectors."""
    height: int = Field(1024, ge=32, le=16384)
    """Height of a detector in pixels."""
    width: int = Field(1024, ge=32, le=16384)
    """Width of a detector in pixels."""
    gap: int = Field(40, ge=0)
    """Space between detectors in pixels."""
    pixel_scale: float = Field(0.2, gt=0)
    """Arcseconds per pixel."""
    pixel_size: float = Field(10.0, gt=0)
    """Side of a pixel in micrometres; sets the area for cosmic rays and the length of their tracks in pixels."""
    thickness: float = Field(100.0, gt=0)
    """Depth of the silicon in micrometres; cosmic-ray tracks are as long as it is deep times the slope."""
    gain: float = Field(1.7, gt=0)
    """Electrons per adu."""
    read_noise: float = Field(6.0, ge=0)
    """Electrons."""
    saturation: float = Field(60000.0, gt=0)
    """Full well in adu; charge above it bleeds along the column."""
    bad_columns: int = Field(2, ge=0)
    """Defective columns per detector, always the same ones on the same detector."""
    variance: Literal["observed", "expected"] = "observed"
    """What the variance plane is computed from: the noisy pixels, as in real pipelines, or their expectation."""

    @property
    def detectors(self) -> int:
        """Number of detectors."""
        return self.rows * self.columns


class PsfConfig(Configuration):
    """The true point-spread function: atmosphere, optics, guiding, each a function of focal-plane position.

    Polynomials are in focal-plane coordinates u (along x) and v (along y) that reach -1 and +1 at the outer edges of
    the camera; their coefficients come in the order 1, u, v, u², uv, v², u³, u²v, uv², v³.
    """

    profile: Literal["kolmogorov", "moffat"] = "kolmogorov"
    """Radial profile of the atmosphere."""
    beta: float = Field(3.0, gt=1.1, le=10.0)
    """Exponent of the Moffat profile."""
    seeing: float = Field(0.75, gt=0)
    """FWHM of the atmospheric profile at the centre of the camera, arcseconds."""
    size: Coefficients = ()
    """Relative change of the seeing over the focal plane."""
    shear1: Coefficients = ()
    """Reduced shear of the atmospheric profile along the axes (positive: along x)."""
    shear2: Coefficients = ()
    """Reduced shear of the atmospheric profile along the diagonals."""
    defocus: Coefficients = (0.08, 0.02, -0.015, 0.05, 0.0, 0.05)
    """Radius of the out-of-focus pupil, arcseconds."""
    astigmatism1: Coefficients = (0.02, 0.03, 0.0, 0.03, 0.0, -0.03)
    """Difference of focus between x and y, as radius at the edge of the pupil, arcseconds."""
    astigmatism2: Coefficients = (0.01, 0.0, 0.03, 0.0, 0.06, 0.0)
    """Difference of focus between the diagonals, arcseconds."""
    coma1: Coefficients = (0.0, 0.03, 0.0)
    """Coma along x: a third of the length of its tail, arcseconds."""
    coma2: Coefficients = (0.0, 0.0, 0.03)
    """Coma along y, arcseconds."""
    obscuration: float = Field(0.4, ge=0, lt=0.95)
    """Diameter of the central obscuration, in units of the aperture."""
    guiding_rms: float = Field(0.04, ge=0)
    """Root mean square guiding error along its larger axis, arcseconds."""
    guiding_ratio: float = Field(1.0, ge=0, le=1)
    """Guiding error along the smaller axis over that along the larger one."""
    guiding_angle: float = 0.0
    """Direction of the larger guiding error, degrees from x towards y."""


class SkyConfig(Configuration):
    """The light between the sources."""

    brightness: float | None = None
    """AB magnitude per square arcsecond; the dark sky of the band when absent."""
    gradient: Coefficients = (0.0, 0.01, -0.006)
    """Relative change over the focal plane, a polynomial like those of the point-spread function."""


class StarsConfig(Configuration):
    """Point sources, uniform over the sky, with counts that grow as a power of flux."""

    density: float = Field(21.0, ge=0)
    """Stars per square arcminute between the two magnitudes."""
    count: int | None = Field(None, ge=0)
    """Exact number on the detector, instead of the density."""
    bright_magnitude: float = 15.0
    """Brightest star."""
    faint_magnitude: float = 24.5
    """Faintest star."""
    slope: float = Field(0.25, gt=0, lt=1)
    """Increase of the logarithm of the counts per magnitude."""


class GalaxiesConfig(Configuration):
    """Galaxies with Sersic profiles, their sizes falling with magnitude."""

    density: float = Field(26.0, ge=0)
    """Galaxies per square arcminute between the two magnitudes."""
    count: int | None = Field(None, ge=0)
    """Exact number on the detector, instead of the density."""
    bright_magnitude: float = 17.0
    """Brightest galaxy."""
    faint_magnitude: float = 24.5
    """Faintest galaxy."""
    slope: float = Field(0.4, gt=0, lt=1)
    """Increase of the logarithm of the counts per magnitude."""
    radius: float = Field(0.9, gt=0)
    """Median half-light radius along the major axis at magnitude 21, arcseconds."""
    radius_slope: float = Field(0.12, ge=0)
    """Decrease of the logarithm (base ten) of the median radius per magnitude."""
    radius_scatter: float = Field(0.2, ge=0)
    """Scatter of the logarithm (base ten) of the radius."""
    early_fraction: float = Field(0.25, ge=0, le=1)
    """Fraction of galaxies with concentrated profiles (Sersic index 2.5 or 4)."""


class CosmicRaysConfig(Configuration):
    """Charged particles through the silicon."""

    rate: float = Field(4.3, ge=0)
    """Hits per square centimetre and minute."""
    track_fraction: float = Field(0.45, ge=0, le=1)
    """Fraction that are straight tracks of muons."""
    worm_fraction: float = Field(0.25, ge=0, le=1)
    """Fraction that are winding tracks of electrons; the rest are compact spots."""


class StreaksConfig(Configuration):
    """Satellites that cross the detector."""

    count: int = Field(0, ge=0)
    """Streaks on the detector."""
    probability: float = Field(0.02, ge=0, le=1)
    """Chance of one more."""
    bright: float = Field(60.0, gt=0)
    """Brightest peak, in standard deviations of the sky."""
    faint: float = Field(4.0, gt=0)
    """Faintest peak, in standard deviations of the sky."""
    width: float = Field(0.3, ge=0)
    """Angular size of the satellite out of focus: standard deviation added across the streak, arcseconds."""


class SceneConfig(Configuration):
    """All that one detector sees in one exposure."""

    camera: CameraConfig = CameraConfig()
    """The detectors."""
    detector: int = Field(0, ge=0)
    """Which detector."""
    band: BandName = "r"
    """Filter."""
    exposure_time: float = Field(30.0, gt=0)
    """Seconds."""
    extinction: float = Field(0.0, ge=0)
    """Light lost to clouds and airmass, magnitudes."""
    psf: PsfConfig = PsfConfig()
    """Point-spread function."""
    sky: SkyConfig = SkyConfig()
    """Sky background."""
    stars: StarsConfig = StarsConfig()
    """Stars."""
    galaxies: GalaxiesConfig = GalaxiesConfig()
    """Galaxies."""
    cosmic_rays: CosmicRaysConfig = CosmicRaysConfig()
    """Cosmic rays."""
    streaks: StreaksConfig = StreaksConfig()
    """Satellite streaks."""
    truth_grid: int = Field(5, ge=1, le=33)
    """Points per axis at which the true PSF is measured and stored."""


class ConditionsConfig(Configuration):
    """How the weather and the telescope change through the night."""

    seeing: float = Field(0.7, gt=0)
    """Median atmospheric FWHM at zenith and 500 nm, arcseconds."""
    seeing_scatter: float = Field(0.18, ge=0)
    """Standard deviation of the natural logarithm of the seeing."""
    seeing_timescale: float = Field(1800.0, gt=0)
    """Seconds in which the seeing forgets."""
    focus_drift: float = Field(0.02, ge=0)
    """Random walk of the defocus in a quarter of an hour, arcseconds."""
    refocus_limit: float = Field(0.25, gt=0)
    """Defocus at which the telescope refocuses, arcseconds."""
    guiding_rms: float = Field(0.04, ge=0)
    """Usual guiding error, arcseconds."""
    guiding_event_probability: float = Field(0.06, ge=0, le=1)
    """Chance per exposure of bad guiding in one direction."""
    guiding_event_rms: float = Field(0.22, ge=0)
    """Guiding error in such an event, arcseconds."""
    cloud_extinction: float = Field(0.08, ge=0)
    """Typical extinction by clouds, magnitudes."""
    cloud_timescale: float = Field(2400.0, gt=0)
    """Seconds in which the clouds change."""
    sky_scatter: float = Field(0.1, ge=0)
    """Standard deviation of the sky brightness, magnitudes."""


class NightConfig(Configuration):
    """A night: what is observed, how often, and what goes wrong."""

    scene: SceneConfig = SceneConfig()
    """What each detector sees."""
    vary: bool = True
    """Let seeing, focus, guiding, sky, filter and extinction follow the conditions of the night; otherwise every
    exposure has those of the scene and only the sources, noise and cosmic rays differ."""
    conditions: ConditionsConfig = ConditionsConfig()
    """Weather and telescope."""
    bands: tuple[BandName, ...] = Field(("r", "i", "g"), min_length=1)
    """Filters in their order of use."""
    exposures_per_band: int = Field(8, ge=1)
    """Exposures before the filter changes."""
    exposures: int = Field(20, ge=1)
    """Exposures of all detectors."""
    cadence: float = Field(3.0, ge=0)
    """Seconds of real time between the announcements of two exposures; 0 means as fast as they can be made."""
    interval: float = Field(240.0, gt=0)
    """Seconds of simulated time between two exposures."""
    start_time: float = Field(61000.0, ge=0)
    """Start of the night, MJD."""
    first_exposure: int = Field(1, ge=0)
    """Number of the first exposure."""
    name: str = Field("", pattern=r"^[A-Za-z0-9_.-]*$")
    """First part of the file names; the instrument's name when empty."""
    fault_rate: float = Field(0.0, ge=0, le=1)
    """Fraction of files that are truncated, missing or full of NaN."""
    seed: int = Field(1, ge=0)
    """Seed of everything random; the same seed gives the same night."""
