"""A process that was told to keep freed memory gets it back without page faults."""

import gc
import os
import platform
import subprocess
import sys
import weakref

import pytest

from streamchar.stream.heap import Leftovers, made_to_stay

PROGRAM = """
import resource, sys
import numpy as np
from streamchar.stream.heap import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def touch():
    np.empty(1 << 24, np.float32).fill(1.0)

touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(what):
    """Page faults of filling 64 MB ten times more, in small pages."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"},
    )
    return int(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_planes_are_reused():
    assert page_faults("by default") > 10_000
    assert page_faults("keep") < 1_000


SMALL_PAGES = """
import gc, resource
from pathlib import Path
import numpy as np
from streamchar.stream.heap import Leftovers, prepare_heap

def huge_pages_allowed():
    return "THP_enabled:\\t1" in Path("/proc/self/status").read_text()

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

assert huge_pages_allowed()
prepare_heap()
before = page_faults()
np.empty(1 << 24, np.float32).fill(1.0)
print(page_faults() - before)
assert not huge_pages_allowed()
Leftovers().collect()
assert huge_pages_allowed()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
def test_the_first_exposure_is_put_into_small_pages_and_later_ones_may_have_huge_ones():
    answer = subprocess.run(
        [sys.executable, "-c", SMALL_PAGES], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(answer.stdout) > 10_000


def test_what_is_made_to_stay_is_not_looked_at_again():
    try:
        with made_to_stay():
            assert not gc.isenabled()
            made = [[] for _ in range(100)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= len(made)
        assert not any(item is made[0] for item in gc.get_objects())
    finally:
        gc.unfreeze()


def test_collecting_is_taken_up_again_after_an_error():
    with pytest.raises(RuntimeError, match="no"), made_to_stay():
        raise RuntimeError("no")
    gc.unfreeze()
    assert gc.isenabled()


class _Cycle:
    def __init__(self):
        self.itself = self


def test_what_an_exposure_leaves_in_cycles_is_freed_each_time():
    try:
        with Leftovers() as leftovers:
            for _ in range(2):
                left = weakref.ref(_Cycle())
                leftovers.collect()
                assert left() is None
    finally:
        gc.unfreeze()


def test_what_an_exposure_leaves_is_not_looked_for_while_it_lasts():
    with Leftovers():
        left = weakref.ref(_Cycle())
        kept = [[] for _ in range(10 * gc.get_threshold()[0])]
        assert left() is not None
    assert gc.isenabled()
    assert kept
