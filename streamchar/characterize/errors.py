"""What can go wrong in characterization, each with its reason code and values."""

from streamchar.errors import StreamcharError


class CharacterizationError(StreamcharError):
    """A step of the characterization cannot be done on this exposure."""

    code = "characterization"


class TooManyMaskedPixelsError(CharacterizationError):
    """No pixel is left for the background."""

    code = "too_many_masked_pixels"
    template = "all {pixels} pixels carry one of the planes {planes}: no background can be measured"


class EmptyStatisticsError(CharacterizationError):
    """Statistics of no value at all were asked for."""

    code = "empty_statistics"
    template = "an array without elements has no statistics"


class TooFewBinsError(CharacterizationError):
    """The exposure has fewer background bins than the model needs, and a simpler one is not allowed."""

    code = "too_few_bins"
    template = (
        "{rows} x {columns} background bins are too few for {model}: {needed} along each axis are needed; "
        "lower 'bin_size' or set 'undersample_style' to 'reduce_interp_order'"
    )


class BackgroundFitError(CharacterizationError):
    """The background model has too few usable bins."""

    code = "background_fit"
    template = "the background model of order {order} needs more usable bins: {usable} of {bins} are usable"


class TooManyCosmicRaysError(CharacterizationError):
    """The cosmic-ray finder overflowed."""

    code = "too_many_cosmic_rays"
    template = "{count} cosmic-ray pixels exceed the limit of {limit} (repair.cosmicray.n_cr_pixel_max)"


class DeblendingError(CharacterizationError):
    """Blended footprints cannot be divided."""

    code = "deblending"
    template = "{footprints} blended footprints of {pixels} pixels together cannot be divided: {detail}"


class PsfWidthError(CharacterizationError):
    """The PSF has no usable width."""

    code = "psf_width"
    template = "the PSF width is {sigma} pixels; a positive, finite value is needed"


class MissingPsfError(PsfWidthError):
    """A step needs the width of the PSF and there is no PSF."""

    code = "missing_psf"
    template = "the exposure has no point-spread function"


class NoSourcesError(CharacterizationError):
    """There is no source to select stars from."""

    code = "no_sources"
    template = "no source was detected"


class NoGoodSourcesError(CharacterizationError):
    """No source passes the quality cuts of the star selector."""

    code = "no_good_sources"
    template = "none of {sources} sources passes the quality cuts of the star selector"


class TooFewPsfStarsError(CharacterizationError):
    """The PSF fit has too few stars."""

    code = "too_few_psf_stars"
    template = (
        "{stars} usable stars of {candidates} candidates are too few for the PSF model (at least {needed})"
    )


class ReferenceStarsError(CharacterizationError):
    """The list of reference stars cannot be used."""

    code = "reference_stars"
    template = "the list of reference stars '{path}' cannot be used: {detail}"


class NonFinitePsfError(CharacterizationError):
    """The fitted PSF is not finite."""

    code = "non_finite_psf"
    template = "the size of the fitted PSF is {size} pixels"


class UnreadablePsfError(CharacterizationError):
    """A PSF model cannot be read."""

    code = "unreadable_psf"
    template = "the PSF model of '{path}' cannot be read: {detail}"


class NormalizationError(CharacterizationError):
    """No star is left to normalise the calibration flux."""

    code = "normalization"
    template = (
        "none of {stars} PSF stars can normalise the calibration flux "
        "({raw_flagged} with flagged raw flux, {reference_flagged} with flagged reference flux)"
    )


class ApertureCorrectionError(CharacterizationError):
    """Too few stars for an aperture correction."""

    code = "aperture_correction"
    template = "{stars} stars for the aperture correction of {flux}, at least {needed} are needed"


class MissingWcsError(CharacterizationError):
    """Celestial coordinates are needed and the exposure has none."""

    code = "missing_wcs"
    template = "{step} needs celestial coordinates and the exposure has none"


class MissingPlotsError(StreamcharError):
    """Matplotlib is not installed."""

    code = "missing_extra"
    template = "pictures need matplotlib, which is not installed; say: pip install 'streamchar[plots]'"

    def __init__(self) -> None:
        super().__init__()

    def __reduce__(self) -> tuple[object, ...]:
        return MissingPlotsError, ()
