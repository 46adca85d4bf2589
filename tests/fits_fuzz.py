"""Reads damaged FITS files and reports what happened: `python -m tests.fits_fuzz --seed 1 --count 1000`.

Runs as a process of its own, because memory is limited for the whole process and a crash must be seen from outside.
Whatever is damaged, the reader may only return an exposure within the limits or raise a typed error; every file that
is opened meanwhile is noted and must lie below the root.
"""

import argparse
import collections
import faulthandler
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from streamchar.errors import StreamcharError
from streamchar.image.access import Access
from streamchar.image.fits import ReadOptions, read_exposure
from streamchar.image.profiles import load_profiles
from tests.fits_files import files_of, mutate, seeds

MAX_PIXELS = 1_000_000
HEADROOM = 256 << 20
"""Bytes of address space beyond what the loaded program has: some planes of the largest image."""
SECONDS_PER_FILE = 20
_PROGRAM = (
    sys.prefix,
    sys.base_prefix,
    "/usr/lib",
    "/usr/share",
    "/lib",
    "/etc/localtime",
    "/proc/self",
    "/dev/",
)


class Opened:
    """Notes every path that is opened while it is switched on."""

    def __init__(self, root):
        self.root, self.on, self.outside = str(root.resolve()), False, set()
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.on or event != "open" or not isinstance(arguments[0], str | bytes):
            return
        path = arguments[0] if isinstance(arguments[0], str) else arguments[0].decode("utf-8", "replace")
        source = str(Path(__file__).parents[1])
        if not path.startswith((self.root, tempfile.gettempdir(), source, *_PROGRAM)):
            self.outside.add(path)


def attempt(image, options, access, profiles):
    """Read one file; returns what came of it, and a traceback where that is not allowed."""
    try:
        exposure = read_exposure(image, options, access=access, profiles=profiles, detector=60)
    except StreamcharError as error:
        return error.code, "" if "\n" not in str(error) and len(str(error)) < 2000 else f"odd text: {error}"
    except BaseException as error:
        return type(error).__name__, traceback.format_exc()
    planes = exposure.image, exposure.mask, exposure.variance
    sound = (
        len({plane.shape for plane in planes}) == 1
        and [str(plane.dtype) for plane in planes] == ["float32", "int32", "float32"]
        and exposure.image.size <= MAX_PIXELS
    )
    return "read", "" if sound else f"unsound planes: {[(plane.shape, plane.dtype) for plane in planes]}"


class TooSlowError(BaseException):
    """Passes through everything that catches errors."""


def _late(number, frame):
    raise TooSlowError(f"a file took more than {SECONDS_PER_FILE} s")


def run(seed, count, only=None):
    """Damage and read ``count`` files; returns the report."""
    signal.signal(signal.SIGALRM, _late)
    options = ReadOptions(
        max_pixels=MAX_PIXELS, max_hdus=32, max_header_bytes=1 << 19, max_unpacked_bytes=32 << 20
    )
    profiles = load_profiles()
    outcomes, failures = collections.Counter(), []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        images = seeds(root)
        for image in images.values():  # everything that is imported late is loaded now
            code, why = attempt(image, options, Access(roots=(root,)), profiles)
            assert code == "read", why
        access, opened = Access(roots=(root,), max_bytes=32 << 20), Opened(root)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, size + HEADROOM))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(seed, seed + count) if only is None else [only]:
            dice = random.Random(-number)
            image = dice.choice(list(images.values()))
            victim = dice.choice(files_of(image)) if dice.random() < 0.4 else image
            whole = victim.read_bytes()
            victim.write_bytes(mutate(whole, number))
            print(number, victim.name, file=sys.stderr, flush=True)
            begin = time.perf_counter()
            signal.alarm(SECONDS_PER_FILE)
            opened.on = True
            code, why = attempt(image, options, access, profiles)
            opened.on = False
            signal.alarm(0)
            victim.write_bytes(whole)
            outcomes[code] += 1
            if why:
                failures.append({"number": number, "file": victim.name, "outcome": code, "why": why[-1500:]})
            outcomes["slow (above 2 s)"] += time.perf_counter() - begin > 2.0
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "files": sum(n for name, n in outcomes.items() if not name.startswith("slow")),
        "outcomes": dict(outcomes.most_common()),
        "failures": failures,
        "opened_outside": sorted(opened.outside),
        "grown_mib": round(grown / 1024, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", type=int, help="number of a single file, to look at a failure")
    arguments = parser.parse_args()
    faulthandler.enable()
    json.dump(run(arguments.seed, arguments.count, arguments.only), sys.stdout, indent=1)
