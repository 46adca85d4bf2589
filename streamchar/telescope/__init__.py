"""The simulated camera: exposures with known truth, one by one or a night of them announced as they are taken."""

from streamchar.telescope.config import CameraConfig, ConditionsConfig, NightConfig, PsfConfig, SceneConfig
from streamchar.telescope.cosmic_rays import CosmicRays
from streamchar.telescope.errors import (
    AnnouncementError,
    MissingSimulatorError,
    UnknownSceneError,
    UnreadableTruthError,
)
from streamchar.telescope.night import Conditions, PlannedExposure, Telescope
from streamchar.telescope.psf import TruePsf
from streamchar.telescope.scenes import SCENES, named_scene
from streamchar.telescope.simulate import Pointing, SimulatedExposure, simulate_exposure
from streamchar.telescope.truth import Truth, read_truth, truth_path, write_truth

__all__ = [
    "SCENES",
    "AnnouncementError",
    "CameraConfig",
    "Conditions",
    "ConditionsConfig",
    "CosmicRays",
    "MissingSimulatorError",
    "NightConfig",
    "PlannedExposure",
    "Pointing",
    "PsfConfig",
    "SceneConfig",
    "SimulatedExposure",
    "Telescope",
    "TruePsf",
    "Truth",
    "UnknownSceneError",
    "UnreadableTruthError",
    "named_scene",
    "read_truth",
    "simulate_exposure",
    "truth_path",
    "write_truth",
]
