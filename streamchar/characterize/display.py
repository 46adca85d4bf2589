"""Points of the characterization at which the reference task displays its products, and what may be called there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

from streamchar.errors import ConfigurationError

if TYPE_CHECKING:
    from streamchar.characterize.task import CharacterizationResult

Point = Literal["repair_iter", "background_iter", "measure_iter", "psf", "repair", "measure"]

POINTS: tuple[Point, ...] = get_args(Point)
"""The points in the order in which they are reached (reference: outputs.md section 8)."""

REPEATED: frozenset[Point] = frozenset({"repair_iter", "background_iter", "measure_iter", "psf"})
"""Points reached once in every round of the PSF measurement."""


class Display(Protocol):
    """Shows the products at a point of the characterization; called as ``display(point, result)``.

    It may read the result but not change it.
    """

    def __call__(self, point: Point, result: CharacterizationResult) -> None:
        """Show ``result`` as it is at ``point``."""
        ...


def no_display(point: Point, result: CharacterizationResult) -> None:
    """Show nothing: the default."""


def parse_points(text: str) -> frozenset[Point]:
    """Read names of points, separated by commas; ``all`` stands for all of them.

    Raises
    ------
    ConfigurationError
        For a name that is not a point; says which is nearest.
    """
    chosen: set[Point] = set()
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name == "all":
            chosen.update(POINTS)
        elif name in POINTS:
            chosen.add(name)
        else:
            import difflib  # only to explain an error

            nearest = difflib.get_close_matches(name, (*POINTS, "all"), n=1, cutoff=0.5)
            hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
            known = ", ".join((*POINTS, "all"))
            raise ConfigurationError.at("--debug", f"there is no point '{name}' (known are {known}){hint}")
    return frozenset(chosen)
