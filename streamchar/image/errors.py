"""What can be wrong with an exposure before it is measured: its address, its file, its layout, its pixels."""

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


class UnknownInstrumentError(StreamcharError):
    """No instrument profile recognises a file."""

    code = "unknown_instrument"
    template = (
        "{path}: no instrument profile recognises it; name one of {known}, or the path of a TOML file with a "
        "profile of its own (see `streamchar instruments show plain`)"
    )


class AmbiguousProfileError(StreamcharError):
    """Several instrument profiles of the same priority recognise a file."""

    code = "ambiguous_profile"
    template = "{path}: the instrument profiles {profiles} all recognise it; name one, or raise its priority"


class AccessError(UnreadableExposureError):
    """The address of an exposure leads to nothing that may be read."""

    code = "access"


class FileMissingError(AccessError):
    """The file of an exposure is not there (yet)."""

    code = "file_missing"
    template = "{uri}: no such file"
    retryable = True


class CompanionMissingError(FileMissingError):
    """A file that belongs to an exposure (mask, weight) is not there (yet)."""

    code = "companion_missing"
    template = "{uri}: no such file; the profile {profile} needs the {role} of {image} there, or announced among its files"


class FileUnreadableError(AccessError):
    """The file of an exposure could not be read."""

    code = "file_unreadable"
    template = "{uri}: cannot be read ({detail})"
    retryable = True


class OutsideRootsError(AccessError):
    """An address points outside the configured roots."""

    code = "outside_roots"
    template = "{uri}: lies outside the allowed roots ({roots}); see the setting fetch.roots"


class HostRefusedError(AccessError):
    """An address, or a redirection, leads to a host or bucket that is not allowed."""

    code = "host_refused"
    template = "{uri}: '{host}' is not among the allowed {kind} ({allowed}); see the setting fetch.{kind}"


class RedirectRefusedError(AccessError):
    """A server redirects to another host, or for ever."""

    code = "redirect_refused"
    template = "{uri}: a redirection to {target} is not followed: {detail}"


class UnsupportedSchemeError(AccessError):
    """An address has a scheme that is not enabled."""

    code = "unsupported_scheme"
    template = "{uri}: the scheme '{scheme}' is not supported; paths, file://, https:// and s3:// are{detail}"


class FileTooLargeError(AccessError):
    """The file of an exposure is larger than allowed."""

    code = "file_too_large"
    template = "{uri}: {size} bytes exceed the limit of {limit} (fetch.max_bytes)"


class ChecksumError(AccessError):
    """The file of an exposure is not the one that was announced."""

    code = "checksum_mismatch"
    template = "{uri}: its SHA-256 is {actual}, announced was {announced}"


class ChecksumFormatError(AccessError):
    """The announced checksum cannot be understood."""

    code = "checksum_format"
    template = "'{checksum}' is not a SHA-256 checksum"


class MissingExtraError(AccessError):
    """An optional package is needed that is not installed."""

    code = "missing_extra"
    template = "{what} needs the package {package}: pip install 'streamchar[{extra}]'"
