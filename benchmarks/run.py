"""Side by side with NumPy, JAX and PyTorch: ``python -m benchmarks.run``.

Each framework runs in a process of its own, one at a time, in several interleaved rounds. Results
are compared before anything is timed. `first` is the time to build a case from nothing: import,
trace, compile, run. A ratio is the peer's best round over ours: above 1, we are
faster. `MiB` is the peak resident memory of each process, interpreter and libraries included.
Machines drift; ratios of one run are worth more than times.
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

PEERS = ("numpy", "jax", "torch", "torch.compile")
ROUNDS = 5
TOLERANCE = 2e-3  # relative to the largest value; float32 sums in different orders


class Worker:
    """A framework's process."""

    def __init__(self, framework: str, threads: int) -> None:
        count = str(threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "FUNCDL_NUM_THREADS": count,
            "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} "
            f"intra_op_parallelism_threads={count}",
        }
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


def compare(case: str, names: list[str], threads: int, seconds: float) -> dict[str, Any]:
    """Figures of one case in every framework that has it, after checking their results."""
    workers = {name: Worker(name, threads) for name in names}
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
        for _ in range(ROUNDS):
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
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--json", default="", help="write all figures to this file")
    options = parser.parse_args()
    peers = list(options.peers)
    limits = peaks(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, at most "
        f"{limits['gflops']:.0f} GFLOP/s (float32) and {limits['gbytes']:.1f} GB/s (triad)"
    )
    header = "".join(f"{name:>14s}" for name in peers)
    print(f"{'case':32s}{'funcdl ms':>10s}{header}   first, MiB", flush=True)
    figures: dict[str, Any] = {"limits": limits, "cases": {}}
    lead = []
    for case in CASES:
        if options.only not in case:
            continue
        try:
            found = compare(case, ["funcdl", *peers], options.threads, options.seconds)
        except RuntimeError as error:
            print(f"{case:32s}{error}", flush=True)
            continue
        figures["cases"][case] = found
        best = found["best"]
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
