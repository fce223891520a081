"""One framework in a process of its own: builds a case, then times it whenever it is told to.

Reads one command a line from standard input: ``build CASE``, ``time SECONDS``, ``quit``; answers
with one JSON object a line.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any


def main() -> None:
    """Serve commands until told to quit."""
    framework, threads = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):
        # JAX divides loops among all processors, whatever it is told about threads.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if framework.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    from benchmarks.cases import build

    call: Any = None
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "quit":
            return
        try:
            if command == "build":
                start = time.perf_counter()
                call, result = build(argument, framework)
                values = result()
                answer: dict[str, Any] = {
                    "first": time.perf_counter() - start,
                    "size": int(values.size),
                    "sample": values[:: max(values.size // 1000, 1)].tolist(),
                }
                del values
            else:
                answer = {"seconds": _time(call, float(argument)), "peak": _peak()}
        except LookupError as error:
            answer = {"missing": str(error)}
        print(json.dumps(answer), flush=True)


def _peak() -> float:
    """The most memory this process ever held, in MiB.

    Not getrusage's figure, which starts from that of the process that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _time(call: Any, seconds: float) -> float:
    """The median time of a call, over about that many seconds."""
    for _ in range(3):
        call()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
