"""Run as a module: characterizes one file in a process that starts and ends as a worker does, prints figures."""

import json
import sys

from streamchar.stream.heap import leave, made_to_stay, prepare_heap
from tests.benchmarks.processes import answer

if __name__ == "__main__":
    prepare_heap()
    with made_to_stay():
        from tests.benchmarks.loop import measure
    answer(measure(**json.loads(sys.argv[1])))
    leave(0)
