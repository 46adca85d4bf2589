"""What can be wrong with a message, each with its reason code and values."""

from streamchar.errors import StreamcharError


class MessageError(StreamcharError):
    """A message cannot be used. Reading it again will not help."""

    code = "message"


class MalformedMessageError(MessageError):
    """The bytes are not a message, or a field is missing, of the wrong type or out of range."""

    code = "malformed_message"
    template = "malformed {message_type} message: {detail}"


class UnsupportedSchemaError(MessageError):
    """The message is of a type or a major version that this software does not know."""

    code = "unsupported_schema"
    template = "{message_type} messages of version {schema_version} are not supported (known: {known})"


class MessageTooLargeError(MessageError):
    """Something in the message is declared or found larger than the limit; nothing of it was kept."""

    code = "message_too_large"
    template = "{what}: {size} exceeds the limit of {limit}"


class UnsupportedPsfError(MessageError):
    """A PSF model is of a kind that this software cannot evaluate, or contradicts itself."""

    code = "unsupported_psf"
    template = "the PSF model of {key} ({kind}) cannot be used: {detail}"


class IncompleteCatalogError(MessageError):
    """The parts of a product do not make the whole that its manifest describes."""

    code = "incomplete_catalog"
    template = "the catalogue of {key} is not the one its manifest describes: {detail}"


class IncompletePsfError(IncompleteCatalogError):
    """The messages of a PSF model do not make a whole."""

    code = "incomplete_psf"
    template = "the PSF model of {key} is not whole: {detail}"
