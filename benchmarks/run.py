"""Side by side with NumPy, JAX, PyTorch and others: ``python -m benchmarks.run``.

Each framework runs in a process of its own, one at a time, in several interleaved rounds. Results
are compared before anything is timed. `first` is the time to build a case from nothing: import,
trace, compile, run. A ratio is the peer's best round over ours: above 1, we are
faster. `MiB` is the peak resident memory of each process, interpreter and libraries included.
Machines drift; ratios of one run are worth more than times.

A fresh large output costs a page fault for every 4 KiB, since glibc's malloc takes large blocks
from the system and gives them back at once; funcdl keeps its own memory. ``--keep-heap`` has malloc
keep what it got, in every process (through ``GLIBC_TUNABLES``), so that the difference shows how
much of a ratio is that. A whole report has both. autograd, MLX and tinygrad (with clang) take part
in some cases, where they are installed. ``--check`` compares results and times nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.cases import CASES
from benchmarks.machine import peaks

PEERS = ("numpy", "jax", "torch", "torch.compile", "autograd", "mlx", "tinygrad")
ROUNDS = 5
# Large blocks come from the heap instead of mappings of their own, which are unmapped when freed;
# the heap's end is not given back; and there is one heap, since those of other threads than the
# first hold no block above 64 MiB (JAX allocates on such threads). Page faults of a call with a
# result of 64 MiB, once warm: none in NumPy, PyTorch and JAX, against 16384 in the latter two (544
# in NumPy, which asks for huge pages) without these settings.
KEEP_HEAP = ":".join(
    (
        "glibc.malloc.mmap_threshold=17179869184",
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.arena_max=1",
    )
)
TOLERANCE = 2e-3  # relative to the largest value; float32 sums in different orders


class Worker:
    """A framework's process."""

    def __init__(self, framework: str, threads: int, keep_heap: bool = False) -> None:
        count = str(threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "FUNCDL_NUM_THREADS": count,
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} "
            f"intra_op_parallelism_threads={count}",
        }
        if keep_heap:
            environment["GLIBC_TUNABLES"] = KEEP_HEAP
        if framework == "jax":
            environment.pop("OMP_NUM_THREADS")
        # Else each import compiles our sources anew, and those of installed peers are at hand.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", framework, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for the answer; a framework that fails counts as missing."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"missing": "the process ended"}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def compare(
    case: str, names: list[str], threads: int, seconds: float, keep_heap: bool, check: bool
) -> dict[str, Any]:
    """Figures of one case in every framework that has it, after checking their results."""
    workers = {name: Worker(name, threads, keep_heap) for name in names}
    try:
        built = {name: worker.ask(f"build {case}") for name, worker in workers.items()}
        present = [name for name, answer in built.items() if "missing" not in answer]
        if "funcdl" not in present:
            raise RuntimeError(f"{case}: funcdl failed: {built['funcdl']['missing']}")
        ours = np.array(built["funcdl"]["sample"])
        for name in present:
            theirs = np.array(built[name]["sample"])
            error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)
            if not error < TOLERANCE:
                raise RuntimeError(f"{case}: funcdl and {name} differ by {error:.2e}")
        best = dict.fromkeys(present, float("inf"))
        peak = dict.fromkeys(present, 0.0)
        for _ in range(0 if check else ROUNDS):
            for name in present:
                answer = workers[name].ask(f"time {seconds}")
                best[name] = min(best[name], answer["seconds"])
                peak[name] = answer["peak"]
        first = {name: built[name]["first"] for name in present}
        return {"best": best, "first": first, "peak": peak}
    finally:
        for worker in workers.values():
            worker.close()


def main() -> None:
    """Print a table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=0.3, help="a round's length")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--keep-heap", action="store_true", help="malloc keeps its memory")
    parser.add_argument("--check", action="store_true", help="compare results, time nothing")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--json", default="", help="write all figures to this file")
    options = parser.parse_args()
    peers = list(options.peers)
    cases = [case for case in CASES if options.only in case]
    if not cases:
        parser.error(f"no case has {options.only!r} in its name; there are: {', '.join(CASES)}")
    limits = peaks(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, at most "
        f"{limits['gflops']:.0f} GFLOP/s (float32) and {limits['gbytes']:.1f} GB/s (memory)"
    )
    header = "".join(f"{name:>14s}" for name in peers)
    print(f"{'case':32s}{'funcdl ms':>10s}{header}   first, MiB", flush=True)
    figures: dict[str, Any] = {"limits": limits, "keep_heap": options.keep_heap, "cases": {}}
    lead = []
    for case in cases:
        try:
            names = ["funcdl", *peers]
            found = compare(
                case, names, options.threads, options.seconds, options.keep_heap, options.check
            )
        except RuntimeError as error:
            print(f"{case:32s}{error}", flush=True)
            continue
        figures["cases"][case] = found
        best = found["best"]
        if options.check:
            print(f"{case:32s}agrees: {', '.join(best)}", flush=True)
            continue
        ratios = [f"x{best[n] / best['funcdl']:.2f}" if n in best else "-" for n in peers]
        rest = "  ".join(
            f"{name} {time:.2f}s {found['peak'][name]:.0f}"
            for name, time in found["first"].items()
            if name != "numpy"
        )
        row = f"{case:32s}{best['funcdl'] * 1e3:10.3f}" + "".join(f"{r:>14s}" for r in ratios)
        print(f"{row}   {rest}", flush=True)
        if len(best) > 1:
            lead.append(min(best[n] for n in best if n != "funcdl") / best["funcdl"])
    if lead:
        mean = float(np.exp(np.mean(np.log(lead))))
        print(f"fastest peer over ours, geometric mean of {len(lead)} cases: x{mean:.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
