"""Small FITS files in the layout of each instrument, made from one simulated sky, and mutations of files."""

import gzip
import random
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Sip

from streamchar.image import Exposure, Identity, MaskPlanes, Observation
from streamchar.image.fits import write_exposure

HEIGHT, WIDTH = 40, 56
TPV = {
    "CTYPE1": "RA---TPV",
    "CTYPE2": "DEC--TPV",
    "CRVAL1": 187.3234793723,
    "CRVAL2": 25.47929312829,
    "CRPIX1": -118.2001,
    "CRPIX2": 7292.67,
    "CD1_1": -1.104488698978e-07,
    "CD1_2": 7.2852759958e-05,
    "CD2_1": -7.288270893501e-05,
    "CD2_2": -1.255065383381e-07,
    "PV1_0": 0.002023803505134,
    "PV1_1": 1.009709449007,
    "PV1_2": 0.0001734228744739,
    "PV1_4": 0.007772465501686,
    "PV1_7": 0.001341550032322,
    "PV2_0": 0.000211208040456,
    "PV2_1": 1.006626107812,
    "PV2_7": -0.007001080270484,
}
TAN = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.1163213123,
    "CRVAL2": 2.2012345678901,
    "CRPIX1": 28.5,
    "CRPIX2": 20.5,
    "CD1_1": -4.6666666666667e-05,
    "CD1_2": 1.0e-07,
    "CD2_1": 1.1e-07,
    "CD2_2": 4.6666666666667e-05,
}


def sky(seed=1, level=300.0):
    """Noise around a sky level, float32."""
    return np.random.default_rng(seed).normal(level, 15.0, (HEIGHT, WIDTH)).astype(np.float32)


def sip_wcs():
    """TAN-SIP coordinates whose numbers need all digits of a double."""
    header = fits.Header(
        {**TAN, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 3, "B_ORDER": 3}
    )
    rng = np.random.default_rng(5)
    for name in "AB":
        for i in range(4):
            for j in range(4 - i):
                if i + j >= 2:
                    header[f"{name}_{i}_{j}"] = float(rng.normal(0, 1e-7))
    wcs = WCS(header)
    wcs.wcs.crval = [150.11632131234567, 2.2012345678901234]
    wcs.wcs.crpix = [28.123456789012345, 20.987654321098765]
    wcs.sip = Sip(wcs.sip.a, wcs.sip.b, None, None, wcs.wcs.crpix)
    return wcs


def exposure():
    """An exposure with everything that a file can hold."""
    rng = np.random.default_rng(3)
    image = sky()
    image[3, 4], image[5, 6] = np.nan, np.inf
    return Exposure(
        image,
        rng.integers(0, 2**12, (HEIGHT, WIDTH), dtype=np.int32),
        rng.uniform(200, 240, (HEIGHT, WIDTH)).astype(np.float32),
        planes=MaskPlanes().including("CROSSTALK"),
        wcs=sip_wcs(),
        identity=Identity("CAM", 2026112200123, 7, "r"),
        observation=Observation(30.1, 61366.123456789012, 1.0 / 3.0, 4.5, 65000.1, "adu"),
        metadata={
            "BGMEAN": 300.1,
            "BGVAR": np.float64(1 / 7),
            "NAN": float("nan"),
            "INF": float("-inf"),
            "tiny": 5e-324,
            "COUNT": 12,
            "OK": True,
            "NOTHING": None,
            "NOTE": "straße, long " * 40,
            "nested": {"list": [1, 2.5, "x"]},
        },
    )


def streamchar(folder, compression="none"):
    """Our own layout."""
    return write_exposure(folder / f"own-{compression}.fits", exposure(), compression=compression)


def plain(folder, suffix=".fits", compression=None):
    """One integer image with gain and read noise."""
    header = fits.Header(
        {**TAN, "GAIN": 2.0, "RDNOISE": 5.0, "INSTRUME": "CAM", "MJD-OBS": 60000.5, "EXPTIME": 86.4}
    )
    pixels = sky().astype(np.int16 if compression == "PLIO_1" else np.uint16)
    path = folder / f"plain{suffix}"
    if compression is None:
        hdus = [fits.PrimaryHDU(pixels, header)]
    else:
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type=compression)]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def afw(folder):
    """An exposure as LSST's afw writes it, with archive extensions."""
    primary = fits.Header(
        {"HIERARCH EXPINFO_V": 2, "AR_HDU": 5, "EXPTIME": 30.0, "DATE-AVG": "2026-11-22T03:04:05.5"}
    )
    for key, value in {"INSTRUMENT": "HSC", "VISIT": 1228, "DETECTOR": 49, "BAND": "i"}.items():
        primary[f"HIERARCH LSST BUTLER DATAID {key}"] = value
    mask = fits.Header()
    for bit, name in enumerate(("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED")):
        mask[f"HIERARCH MP_{name}"] = bit
    mask["HIERARCH MP_BRIGHT_OBJECT"] = 14
    bits = np.zeros((HEIGHT, WIDTH), np.int32)
    bits[2, 3], bits[4, 5] = 1 << 1, 1 << 14
    image = fits.Header({**TAN, "BUNIT": "adu"})
    archive = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=[1, 2])], name="ARCHIVE_INDEX")
    psf = fits.BinTableHDU.from_columns([fits.Column("coeff", "D", array=[0.5])], name="PsfexPsf")
    path = folder / "calexp-HSC-1228-49.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(header=primary),
            fits.CompImageHDU(sky(), image, "IMAGE", compression_type="RICE_1", quantize_level=64.0),
            fits.CompImageHDU(bits, mask, "MASK", compression_type="RICE_1"),
            fits.CompImageHDU(
                np.full((HEIGHT, WIDTH), 225, np.float32), name="VARIANCE", quantize_level=64.0
            ),
            archive,
            psf,
        ]
    ).writeto(path, overwrite=True)
    return path


def decam(folder, version="V5.5"):
    """Image, data quality and weight of two CCDs, tile-compressed; returns the image."""
    primary = {
        "INSTRUME": "DECam",
        "PROCTYPE": "InstCal",
        "PLVER": version,
        "EXPNUM": 630780,
        "EXPTIME": 107.0,
        "MJD-OBS": 57828.26285591,
        "FILTER": "z DECam SDSS c0004 9260.0 1520.0",
    }
    quality = np.zeros((HEIGHT, WIDTH), np.int16)
    quality[1, 1:9] = range(1, 9)
    weight = np.full((HEIGHT, WIDTH), 0.01, np.float32)
    weight[quality != 0] = 0
    for letter, pixels, options in (
        ("i", sky(), {"quantize_level": 64.0}),
        ("d", quality, {}),
        ("w", weight, {"compression_type": "GZIP_2", "quantize_level": 0.0}),
    ):
        hdus = [fits.PrimaryHDU(header=fits.Header(primary))]
        for name, number in (("N2", 33), ("N4", 60)):
            header = fits.Header({**TPV, "CCDNUM": number, "FWHM": 3.69, "SATURATE": 45845.4})
            header.update({"GAINA": 3.8, "GAINB": 4.2, "RDNOISEA": 6.0, "RDNOISEB": 7.0})
            hdus.append(fits.CompImageHDU(pixels + (number if letter == "i" else 0), header, name, **options))
        fits.HDUList(hdus).writeto(folder / f"c4d_170316_062107_oo{letter}_z_v1.fits.fz", overwrite=True)
    return folder / "c4d_170316_062107_ooi_z_v1.fits.fz"


def sdss(folder):
    """A corrected frame with its masks and PSF file."""
    header = fits.Header(
        {
            **TAN,
            "RUN": 6377,
            "CAMCOL": 4,
            "FRAME": 399,
            "FILTER": "r",
            "SOFTBIAS": 1000,
            "EXPTIME": "53.907456",
        }
    )
    header["TAI"], header["RADECSYS"], header["BUNIT"] = 4665448596.13, "ICRS", "DNs"
    path = folder / "fpC-006377-r4-0399.fit.gz"
    fits.PrimaryHDU((sky(level=120) + 1000).astype(np.uint16), header).writeto(path, overwrite=True)
    spans = np.array([[2, 3, 6], [39, 50, 99], [3, 0, 0]], ">i2").tobytes()
    rows = np.array([np.frombuffer(spans, np.uint8)], object)
    tables = [
        fits.BinTableHDU.from_columns(
            [fits.Column("nspan", "J", array=[count]), fits.Column("s", "PB()", array=rows)]
        )
        for count in (3, 1)
    ]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(folder / "fpM-006377-r4-0399.fit", overwrite=True)
    columns = [
        fits.Column(name, "5E", array=[values])
        for name, values in (
            ("gain", [1.6, 3.995, 4.76, 4.885, 4.775]),
            ("dark_variance", [12.6, 1.96, 1.3225, 6.25, 9.61]),
            ("psf_width", [1.27, 1.31, 1.09, 1.10, 1.25]),
        )
    ]
    empty = [fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[0])]) for _ in range(5)]
    fits.HDUList([fits.PrimaryHDU(), *empty, fits.BinTableHDU.from_columns(columns)]).writeto(
        folder / "psField-006377-4-0399.fit", overwrite=True
    )
    return path


def banzai(folder):
    """A frame of Las Cumbres Observatory."""
    header = fits.Header(
        {
            **TAN,
            "ORIGIN": "LCOGT",
            "INSTRUME": "fa12",
            "FILTER": "rp",
            "GAIN": 1.0,
            "RDNOISE": 8.0,
            "L1FWHM": 1.6,
        }
    )
    header.update({"ORIGNAME": "coj1m011-fa12-20260104-0123-e00", "BUNIT": "electron", "MJD-OBS": 61000.25})
    header.update({"EXPTIME": 60.0, "SATURATE": 128000.0})
    bits = np.zeros((HEIGHT, WIDTH), np.uint8)
    bits[0, :4] = [1, 2, 4, 8]
    catalog = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])], name="CAT")
    path = folder / "coj1m011-fa12-20260104-0123-e91.fits.fz"
    error = np.full((HEIGHT, WIDTH), 18.0, np.float32)
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU(sky(), header, "SCI", quantize_level=64.0),
            catalog,
            fits.CompImageHDU(bits, name="BPM"),
            fits.CompImageHDU(error, name="ERR", compression_type="GZIP_2", quantize_level=0.0),
        ]
    ).writeto(path, overwrite=True)
    return path


def ztf(folder):
    """A science image of one quadrant with its mask."""
    header = fits.Header(
        {**TPV, "INSTRUME": "ZTF/MOSAIC", "EXPID": 98765432, "CCDID": 7, "QID": 3, "FILTER": "ZTF_r"}
    )
    header.update({"GAIN": 6.2, "READNOI": 10.3, "SATURATE": 52000.0, "EXPTIME": 30.0, "OBSMJD": 60700.25})
    bits = np.zeros((HEIGHT, WIDTH), np.int16)
    bits[0, :13] = 1 << np.arange(13)
    stem = "ztf_20250125250000_000655_zr_c07_o_q3"
    fits.PrimaryHDU(sky(), header).writeto(folder / f"{stem}_sciimg.fits", overwrite=True)
    fits.PrimaryHDU(bits).writeto(folder / f"{stem}_mskimg.fits", overwrite=True)
    return folder / f"{stem}_sciimg.fits"


def seeds(folder):
    """One image of every layout and compression, each in a folder of its own with its companions."""
    makers = {
        "own": streamchar,
        "own-gzip": lambda place: streamchar(place, "gzip"),
        "own-rice": lambda place: streamchar(place, "rice"),
        "plain": plain,
        "plain-gz": lambda place: plain(place, ".fits.gz"),
        "plain-rice": lambda place: plain(place, ".fits.fz", "RICE_1"),
        "plain-gzip1": lambda place: plain(place, ".fits.fz", "GZIP_1"),
        "plain-plio": lambda place: plain(place, ".fits.fz", "PLIO_1"),
        "afw": afw,
        "decam": decam,
        "sdss": sdss,
        "banzai": banzai,
        "ztf": ztf,
    }
    paths = {}
    for name, make in makers.items():
        (folder / name).mkdir()
        paths[name] = make(folder / name)
    return paths


_STRUCTURE = [
    "SIMPLE",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "EXTEND",
    "PCOUNT",
    "GCOUNT",
    "TFIELDS",
    "XTENSION",
    "EXTNAME",
    "ZIMAGE",
    "ZCMPTYPE",
    "ZBITPIX",
    "ZNAXIS",
    "ZNAXIS1",
    "ZNAXIS2",
    "ZTILE1",
    "ZTILE2",
    "ZNAME1",
    "ZVAL1",
    "ZNAME2",
    "ZVAL2",
    "ZQUANTIZ",
    "ZDITHER0",
    "ZBLANK",
    "THEAP",
    "TFORM1",
    "TFORM2",
    "TFORM3",
    "TTYPE1",
    "TTYPE2",
    "TDIM1",
    "BZERO",
    "BSCALE",
    "BLANK",
    "CTYPE1",
    "CTYPE2",
    "CRPIX1",
    "CRVAL1",
    "CD1_1",
    "PC1_1",
    "CDELT1",
    "PV1_0",
    "PV1_1",
    "A_ORDER",
    "B_ORDER",
    "A_2_0",
    "WCSAXES",
    "CUNIT1",
    "GAIN",
    "RDNOISE",
    "EXPTIME",
    "MP_BAD",
    "MP_SAT",
    "DETECTOR",
    "CCDNUM",
    "SOFTBIAS",
    "FILTER",
    "CONTENT",
]
_VALUES = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "8",
    "16",
    "17",
    "32",
    "33",
    "64",
    "-32",
    "-64",
    "99",
    "255",
    "256",
    "1000",
    "32767",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "99999999999999999999",
    "1e10",
    "1e308",
    "1e400",
    "-1e400",
    "1.5",
    "NaN",
    "T",
    "F",
    "'IMAGE'",
    "'BINTABLE'",
    "'RICE_1'",
    "'GZIP_1'",
    "'GZIP_2'",
    "'PLIO_1'",
    "'HCOMPRESS_1'",
    "'NOCOMPRESS'",
    "'BLOCKSIZE'",
    "'BYTEPIX'",
    "'SUBTRACTIVE_DITHER_1'",
    "'SUBTRACTIVE_DITHER_2'",
    "'1PB(99)'",
    "'1QB(9)'",
    "'1PI(4)'",
    "'99999999E'",
    "'(999,999,999)'",
    "'RA---TAN'",
    "'RA---TAN-SIP'",
    "'RA---TPV'",
    "'RA---TAB'",
    "'DEC--ZPN'",
    "'FREQ'",
    "''",
    "'x'",
    "'../../etc/passwd'",
    "'/etc/passwd'",
]


def _cards(data):
    """Offsets of everything that looks like a header card."""
    found, begin = [], 0
    while begin < len(data):
        block = data[begin : begin + 2880]
        if block[:9] in (b"SIMPLE  =", b"XTENSION="):
            while begin < len(data):
                offsets = range(begin, min(begin + 2880, len(data)), 80)
                found += offsets
                ended = any(data[o : o + 8] == b"END     " for o in offsets)
                begin += 2880
                if ended:
                    break
        else:
            begin += 2880
    return found or [0]


def _set_value(data, dice):
    offsets = _cards(data)
    known = [o for o in offsets if data[o : o + 8].rstrip().decode("latin-1") in _STRUCTURE]
    offset = dice.choice(known if known and dice.random() < 0.8 else offsets)
    key = bytes(data[offset : offset + 8])
    data[offset : offset + 80] = key + b"= " + dice.choice(_VALUES).encode().ljust(70)


def _new_card(data, dice):
    offset = dice.choice(_cards(data))
    text = f"{dice.choice(_STRUCTURE):<8}= {dice.choice(_VALUES)}"
    data[offset : offset + 80] = text.encode().ljust(80)


def _swap_cards(data, dice):
    first, second = dice.choice(_cards(data)), dice.choice(_cards(data))
    data[first : first + 80], data[second : second + 80] = (
        data[second : second + 80],
        data[first : first + 80],
    )


def _garble_card(data, dice):
    offset = dice.choice(_cards(data)) + dice.randrange(80)
    data[offset : offset + 1] = bytes([dice.choice((0, 9, 10, 39, 61, 127, 200, 255, dice.randrange(256)))])


def _small_letters(data, dice):
    offset = dice.choice(_cards(data))
    data[offset : offset + 8] = bytes(data[offset : offset + 8]).lower()


def _flip(data, dice):
    for _ in range(dice.randint(1, 30)):
        data[dice.randrange(len(data))] = dice.randrange(256)


def _flip_tail(data, dice):
    for _ in range(dice.randint(1, 30)):
        data[dice.randrange(len(data) // 2, len(data))] = dice.choice((0, 255, 128, dice.randrange(256)))


def _cut(data, dice):
    del data[dice.choice((dice.randrange(len(data)), 2880 * dice.randrange(1 + len(data) // 2880))) :]


def _drop_block(data, dice):
    begin = 2880 * dice.randrange(1 + len(data) // 2880)
    del data[begin : begin + 2880]


def _repeat_block(data, dice):
    begin = 2880 * dice.randrange(1 + len(data) // 2880)
    data[begin:begin] = bytes(data[begin : begin + 2880]) * dice.choice((1, 1, 2, 50))


def _swap_blocks(data, dice):
    first, second = (2880 * dice.randrange(1 + len(data) // 2880) for _ in range(2))
    a, b = bytes(data[first : first + 2880]), bytes(data[second : second + 2880])
    if len(a) == len(b):
        data[first : first + 2880], data[second : second + 2880] = b, a


def _append(data, dice):
    data += bytes(dice.choice((0, 32, 255)) for _ in range(dice.choice((1, 80, 2880, 5760))))


def _no_end(data, dice):
    offsets = [o for o in _cards(data) if data[o : o + 8] == b"END     "]
    if offsets:
        offset = dice.choice(offsets)
        data[offset : offset + 8] = b"ENDE    "


MUTATIONS = (
    _set_value,
    _set_value,
    _set_value,
    _new_card,
    _swap_cards,
    _garble_card,
    _garble_card,
    _small_letters,
    _flip,
    _flip_tail,
    _cut,
    _drop_block,
    _repeat_block,
    _swap_blocks,
    _append,
    _no_end,
)


def mutate(data: bytes, number: int) -> bytes:
    """Damage a file, the same way for the same number; packed ones are damaged inside or outside of the packing."""
    dice = random.Random(number)
    packed = data[:2] == b"\x1f\x8b" and dice.random() < 0.7
    changed = bytearray(gzip.decompress(data) if packed else data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        if changed:
            dice.choice(MUTATIONS)(changed, dice)
    result = bytes(changed)
    return gzip.compress(result, 1) if packed or dice.random() < 0.03 else result


def files_of(image: Path) -> list[Path]:
    """Return the files in the folder of an image, the image first."""
    return [image, *sorted(path for path in image.parent.iterdir() if path != image)]
