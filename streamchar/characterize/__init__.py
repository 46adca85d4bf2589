"""The science: pure functions and small tasks over an Exposure.

Knows nothing of files, Kafka, event loops or metrics.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamchar.characterize.config import CharacterizeImageConfig
    from streamchar.characterize.task import CharacterizationResult, CharacterizeImage

__all__ = ["CharacterizationResult", "CharacterizeImage", "CharacterizeImageConfig"]


def __getattr__(name: str) -> Any:
    # The parts (a catalogue, a PSF) are usable without importing the whole task.
    if name == "CharacterizeImageConfig":
        from streamchar.characterize import config

        return config.CharacterizeImageConfig
    if name in {"CharacterizeImage", "CharacterizationResult"}:
        from streamchar.characterize import task

        return getattr(task, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
