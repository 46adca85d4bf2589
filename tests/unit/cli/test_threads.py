"""Commands use one thread for linear algebra: their parallelism is by process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from streamchar.cli import main
sys.argv = ["streamchar", "--version"]
try:
    main()
except SystemExit:
    pass
import numpy as np
from pathlib import Path
a = np.ones((600, 600)) @ np.ones((600, 600))
print(len(list(Path("/proc/self/task").iterdir())))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread anyway")
@pytest.mark.parametrize(("told", "threads"), [(None, 1), ("2", None)])
def test_linear_algebra_has_the_threads_it_is_told(told, threads):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    if told:
        environment |= {"OPENBLAS_NUM_THREADS": told, "OMP_NUM_THREADS": told}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    found = int(done.stdout.split()[-1])
    assert found == threads if threads else found > 1
