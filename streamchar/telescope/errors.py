"""What can go wrong with the simulated camera."""

from streamchar.errors import StreamcharError


class MissingSimulatorError(StreamcharError):
    """GalSim is not installed."""

    code = "missing_extra"
    template = (
        "the simulated camera needs GalSim, which is not installed; say: pip install 'streamchar[demo]'"
    )

    def __init__(self) -> None:
        super().__init__()

    def __reduce__(self) -> tuple[object, ...]:
        return MissingSimulatorError, ()


class UnknownSceneError(StreamcharError):
    """No scene has this name."""

    code = "unknown_scene"
    template = "there is no scene '{name}'{hint}; known are {known}"


class UnreadableTruthError(StreamcharError):
    """A truth file is missing or not one."""

    code = "unreadable_truth"
    template = "{path}: {detail}"


class AnnouncementError(StreamcharError):
    """An event could not be handed to the broker."""

    code = "announcement"
    template = "exposure {subject} could not be announced to {bootstrap}: {detail}"


class RendererLostError(StreamcharError):
    """The process that draws the exposures ended."""

    code = "renderer_lost"
    template = (
        "the process that draws the exposures ended with exit code {exit_code}; it may have run out of memory"
    )


class DrawingError(StreamcharError):
    """An exposure could not be drawn or written."""

    code = "drawing"
    template = "{file} could not be made: {detail}"
