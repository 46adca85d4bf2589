"""What can be wrong with an exposure before it is measured."""

from streamchar.errors import StreamcharError


class UnreadableExposureError(StreamcharError):
    """The file is missing, truncated or not FITS."""

    code = "unreadable"
    template = "{path}: {detail}"


class InvalidExposureError(StreamcharError):
    """The pixels or the header cannot be those of an exposure."""

    code = "invalid_exposure"
    template = "{path}: {detail}"


class ExposureTooLargeError(StreamcharError):
    """The file claims more than the configured limits allow."""

    code = "exposure_too_large"
    template = (
        "{path}: {quantity} is {value}, the limit is {limit}; raise '{setting}' if this is a real exposure"
    )


class UnknownMaskPlaneError(StreamcharError):
    """A mask plane was named that the exposure does not have."""

    code = "unknown_mask_plane"
    template = "mask plane '{plane}' does not exist; known are {known}"
