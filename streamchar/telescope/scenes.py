"""Named scenes: the conditions under which the characterization is compared with truth."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from streamchar.configuration import merge, validate
from streamchar.telescope.config import SceneConfig
from streamchar.telescope.errors import UnknownSceneError

Tree = dict[str, Any]

_OPTICS_FREE: Tree = {"defocus": (), "astigmatism1": (), "astigmatism2": (), "coma1": (), "coma2": ()}

_LINEAR: Tree = {
    "size": (0.0, 0.03, -0.02),
    "shear1": (0.01, 0.015, 0.005),
    "shear2": (-0.01, 0.005, 0.015),
}

_QUADRATIC: Tree = {
    "size": (0.0, 0.02, -0.015, 0.03, 0.01, 0.02),
    "shear1": (0.01, 0.01, 0.005, 0.02, 0.0, -0.015),
    "shear2": (-0.005, 0.005, 0.01, 0.005, 0.02, 0.0),
}

_CUBIC: Tree = {
    "size": (0.0, 0.04, -0.03, 0.05, 0.02, 0.03, -0.08, 0.04, 0.03, 0.06),
    "shear1": (0.005, 0.006, 0.004, 0.008, 0.0, -0.008, 0.012, -0.008, 0.008, -0.012),
    "shear2": (-0.005, 0.004, 0.006, 0.004, 0.008, 0.0, -0.008, 0.012, -0.012, 0.008),
}


def _scene(summary: str, **changes: Any) -> tuple[str, Tree]:
    return summary, changes


_SCENES: Mapping[str, tuple[str, Tree]] = MappingProxyType(
    {
        "normal": _scene("FWHM 4 px, a quadratic field", psf={"seeing": 0.778, **_QUADRATIC}),
        "sharp": _scene("FWHM 2.3 px, a cubic field", psf={"seeing": 0.427, "guiding_rms": 0.03, **_CUBIC}),
        "poor": _scene("FWHM 8 px, a linear field", psf={"seeing": 1.592, **_LINEAR}),
        "sparse": _scene(
            "38 stars and few galaxies, FWHM 4 px, a linear field",
            psf={"seeing": 0.778, **_LINEAR},
            stars={"count": 38, "bright_magnitude": 16.5, "faint_magnitude": 21.5},
            galaxies={"density": 8.0},
        ),
        "dense": _scene(
            "a low galactic latitude",
            psf={"seeing": 0.778, **_QUADRATIC},
            stars={"density": 80.0},
            galaxies={"density": 60.0},
        ),
        "crowded": _scene(
            "a star field near the galactic plane: blends everywhere",
            psf={"seeing": 0.778, **_QUADRATIC},
            stars={"density": 350.0, "slope": 0.3},
            galaxies={"density": 26.0},
        ),
        "cosmic-rays": _scene(
            "as many cosmic rays as in 900 s",
            psf={"seeing": 0.778, **_QUADRATIC},
            cosmic_rays={"rate": 130.0},
        ),
        "streaks": _scene(
            "five satellites and many saturated stars",
            psf={"seeing": 0.778, **_QUADRATIC},
            stars={"density": 25.0, "bright_magnitude": 12.5, "slope": 0.2},
            streaks={"count": 5},
        ),
        "gradients": _scene(
            "moonlight: a bright sky with steep cubic gradients",
            psf={"seeing": 0.778, **_QUADRATIC},
            sky={
                "brightness": 19.8,
                "gradient": (0.0, 0.12, -0.08, 0.06, 0.05, -0.04, 0.05, 0.0, -0.04, 0.03),
            },
        ),
    }
)

SCENES: Mapping[str, str] = MappingProxyType({name: summary for name, (summary, _) in _SCENES.items()})
"""What each named scene shows."""

SCENE_SIZE = 4096
"""Width and height of a named scene in pixels."""


def named_scene(name: str, *, size: int = SCENE_SIZE) -> SceneConfig:
    """Return a scene of one square detector.

    The field of the point-spread function is the same over the detector whatever its size; so are the densities per
    area, but the ``sparse`` scene always has 38 stars.

    Parameters
    ----------
    name
        One of :data:`SCENES`.
    size
        Width and height in pixels.

    Raises
    ------
    UnknownSceneError
        For another name.
    """
    if name not in _SCENES:
        nearest = difflib.get_close_matches(name, _SCENES, n=1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        raise UnknownSceneError(name=name, hint=hint, known=", ".join(_SCENES))
    tree: Tree = {
        "camera": {"rows": 1, "columns": 1, "height": size, "width": size, "variance": "observed"},
        "psf": dict(_OPTICS_FREE),
        "truth_grid": 9,
    }
    merge(tree, _SCENES[name][1])
    return validate(SceneConfig, tree, f"scene {name}")
