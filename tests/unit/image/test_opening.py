"""What damaged files have taught: claims that would make astropy crash, hang or fill memory are refused before it looks."""

import pytest
from astropy.io import fits

from streamchar.image import ExposureTooLargeError, InvalidExposureError, UnreadableExposureError
from streamchar.image.fits import ReadOptions, read_exposure
from tests import fits_files


def changed(path, *cards):
    """Put the cards in the place of the cards of the same key; keys without one replace a comment or a spare card."""
    data = path.read_bytes()
    for text in cards:
        key = text[:8].encode()
        at = next(i for i in range(0, len(data), 80) if data[i : i + 8] == key)
        data = data[:at] + text.encode().ljust(80) + data[at + 80 :]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("ZVAL2   =                32767", "BYTEPIX is '32767', not 1 or 2 or 4 or 8"),  # crashed the decoder
        ("ZVAL1   =                    0", "BLOCKSIZE is '0', not 16 or 32"),
        ("TFIELDS =           2147483647", "TFIELDS is 2147483647"),  # counted up to it
        ("TFORM1  = '99999999E'         ", "columns of 399999996 bytes in rows of 8"),  # allocated it
        ("TFORM1  = 'nonsense'          ", "TFORM1 is 'nonsense'"),
        ("ZTILE1  =           2147483647", "tiles of 2147483647 pixels"),
        ("ZNAXIS  =           2147483647", "ZNAXIS is 2147483647"),
        ("ZBITPIX =                   17", "ZBITPIX 17"),
        ("ZCMPTYPE= 'HCOMPRESS_1'       ", "is compressed with 'HCOMPRESS_1'"),
        ("PCOUNT  =                   -1", "PCOUNT -1"),
        ("BITPIX  =                   12", "BITPIX 12"),
        ("PCOUNT  =                 1e10", "PCOUNT is '1e10', not a number"),
    ],
)
def test_impossible_claims_of_compressed_files(tmp_path, card, words):
    path = fits_files.plain(tmp_path, ".fits.fz", "RICE_1")
    with pytest.raises(UnreadableExposureError, match=words):
        read_exposure(changed(path, card))


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("NAXIS   =           2147483647", "NAXIS is 2147483647"),
        ("NAXIS1  =                   -5", "NAXIS1 is -5"),
        ("naxis1  =               999999", "NAXIS1 is 56 and 999999"),  # small letters count too
        ("NAXIS   =                 2147", "NAXIS is 2 and 2147"),  # of two the last counted
    ],
)
def test_impossible_and_repeated_claims_of_plain_files(tmp_path, card, words):
    path = fits_files.plain(tmp_path)
    repeated = " and " in words
    data = path.read_bytes()
    if repeated:
        path.write_bytes(data.replace(b"INSTRUME= 'CAM     '".ljust(80), card.encode().ljust(80)))
        assert path.read_bytes() != data
    else:
        changed(path, card)
    with pytest.raises(UnreadableExposureError, match=words):
        read_exposure(path)


def test_a_claim_of_terabytes_is_refused_without_looking_for_them(tmp_path):
    path = fits_files.plain(tmp_path, ".fits.fz", "GZIP_1")
    changed(path, "ZNAXIS1 =              1000000", "ZNAXIS2 =              1000000")
    with pytest.raises(
        ExposureTooLargeError, match="number of pixels is 1000000000000, the limit is 400000000"
    ):
        read_exposure(path)


def test_what_follows_the_last_extension_is_not_read(tmp_path):
    path = fits_files.plain(tmp_path)
    whole = read_exposure(path)
    junk = b"XTENSIOM= 'IMAGE   '".ljust(80) + b"TFIELDS = 2147483647".ljust(80) + b"END".ljust(2720)
    path.write_bytes(path.read_bytes() + junk * 2)
    assert (read_exposure(path, ReadOptions(max_hdus=1)).image == whole.image).all()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"CTYPE1": "RA---TAB"}, "the world coordinates cannot be read"),
        ({"WCSAXES": 100000}, "WCSAXES is '100000'"),
        ({"A_ORDER": 100000, "B_ORDER": 2, "CTYPE1": "RA---TAN-SIP"}, "A_ORDER is '100000'"),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, "the world coordinates cannot be read"),
    ],
)
def test_coordinates_that_make_no_sense_name_the_way_out(tmp_path, keys, words):
    path = fits_files.plain(tmp_path)
    for key, value in keys.items():
        fits.setval(path, key, value=value)
    with pytest.raises(InvalidExposureError, match=words):
        read_exposure(path)


def test_a_card_that_cannot_be_parsed_tells_nothing(tmp_path):
    path = fits_files.plain(tmp_path)
    with pytest.raises(InvalidExposureError, match="needs the gain"):
        read_exposure(changed(path, "GAIN    = 'open"))
    assert read_exposure(path, ReadOptions(gain=2.0)).observation.read_noise == 5.0
