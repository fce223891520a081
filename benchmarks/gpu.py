"""Kernels and training steps on a GPU beside PyTorch and JAX: ``python -m benchmarks.gpu``.

Each case's results are compared with a float64 reference before it is timed. `GB/s` and `TFLOP/s`
count what the case must move and compute at least. `of peak` is the share of the copy bandwidth, or
of the fastest matrix product of the same type, that this run has measured itself. Times are the
best of several rounds of calls that are issued one after the other and waited for at the end.

Every framework has a process of its own. No case starts after ``--minutes``; what was not reached,
or went wrong, is said in the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import gpu_worker
from benchmarks.gpu_worker import COPY, Row

ROOT = Path(__file__).parents[1]
FRAMEWORKS = ("funcdl", "torch", "torch.compile", "jax")
SHARES = {"funcdl": 3, "torch.compile": 2, "jax": 2}
"""Parts of the time, beside one for others: what compiles needs more of it."""

REFERENCES = "references"
"""What computes losses in float64 on the CPU; it has at most `REFERENCE_SHARE` of the time."""
REFERENCE_SHARE = 0.25

Worker = Callable[[str, str, dict[str, Any], float], None]


def start_worker(framework: str, path: str, task: dict[str, Any], timeout: float) -> None:
    """Run a worker until it ends, or the time is up."""
    command = [sys.executable, "-m", "benchmarks.gpu_worker", framework, path, json.dumps(task)]
    try:
        subprocess.run(command, cwd=ROOT, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        print(f"{framework}: the time is up", file=sys.stderr)


def measure_all(
    framework: str, task: dict[str, Any], until: float, worker: Worker = start_worker
) -> list[Row]:
    """A row for each case, also where a worker died: another one goes on after that case."""
    left, rows = list(task["cases"]), []
    while left:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rows")
            path.touch()
            remaining = until - time.monotonic()
            if remaining > 0:
                worker(framework, str(path), task | {"cases": left}, remaining)
            told: list[Row] = [json.loads(line) for line in path.read_text().splitlines()]
        late = time.monotonic() >= until
        begun = [row["case"] for row in told if set(row) == {"case"}]
        done = {row["case"]: row for row in told if "us" in row or "failed" in row}
        missing = next((row["missing"] for row in told if "missing" in row), None)
        for case in begun:
            ended = "the time was up" if late else "the process ended"
            rows.append(done.get(case, {"case": case, "failed": ended}))
        left = left[len(begun) :]
        if missing is not None or late or not begun:
            why = missing or ("no time was left" if late else "the process ended at once")
            rows += [{"case": case, "failed": why} for case in left]
            break
    return [{"framework": framework} | row for row in rows]


def reference_losses(
    cases: Sequence[str], full: bool, seconds: float, worker: Worker = start_worker
) -> dict[str, list[float]]:
    """The first losses of training steps by name, without those that were not done in time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows")
        path.touch()
        worker(REFERENCES, str(path), {"cases": list(cases), "full": full}, seconds)
        told: list[Row] = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["case"]: row["losses"] for row in told}


def add_shares(rows: Sequence[Row]) -> None:
    """Set `of peak` where a case has a measure, and the run a peak for it."""
    copies = [row["GB/s"] for row in rows if row["case"] == COPY and "us" in row]
    for row in rows:
        if "us" not in row:
            continue
        rates = [
            r["TFLOP/s"]
            for r in rows
            if "us" in r and r["case"].startswith("matmul") and r["kind"] == row["kind"]
        ]
        if row["GB/s"] and copies:
            row["of peak"] = row["GB/s"] / max(copies)
        elif row["TFLOP/s"] and rates:
            row["of peak"] = row["TFLOP/s"] / max(rates)


def table(rows: Sequence[Row]) -> str:
    """The rows as text, those of a case side by side."""
    order = {case: number for number, case in enumerate(dict.fromkeys(r["case"] for r in rows))}
    lines = [
        f"{'case':<36}{'by':<15}{'us':>10}{'GB/s':>9}{'TFLOP/s':>9}{'of peak':>9}{'error':>10}"
    ]
    for r in sorted(rows, key=lambda r: order[r["case"]]):
        start = f"{r['case']:<36}{r['framework']:<15}"
        if "failed" in r:
            lines.append(f"{start}  {r['failed']}")
            continue
        rates = [f"{r[n]:>9.{d}f}" if r[n] else " " * 9 for n, d in (("GB/s", 0), ("TFLOP/s", 1))]
        share = f"{r['of peak']:>9.2f}" if "of peak" in r else " " * 9
        lines.append(f"{start}{r['us']:>10.1f}{''.join(rates)}{share}{r['error']:>10.1e}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None, worker: Worker = start_worker) -> int:
    """Measure, print and write; returns the process's exit code: 1 where funcdl failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=8192, help="side of the largest matrices")
    parser.add_argument("--small", action="store_true", help="small training steps, for a try")
    parser.add_argument("--frameworks", nargs="*", choices=FRAMEWORKS, default=FRAMEWORKS)
    parser.add_argument("-k", default="", help="only cases whose names contain this")
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--json", help="also write the rows to this file")
    options = parser.parse_args(arguments)
    if options.json and not Path(options.json).parent.is_dir():  # or minutes would be lost
        parser.error(f"there is no folder {Path(options.json).parent}")
    import funcdl
    from funcdl.errors import DeviceError

    until = time.monotonic() + 60 * options.minutes
    try:
        device = funcdl.devices("gpu")[0]
    except DeviceError as error:
        print(f"benchmarks.gpu measures on an NVIDIA GPU: {error}", file=sys.stderr)
        return 1
    full = not options.small
    cases = [n for n in gpu_worker.case_names(options.size, full) if n == COPY or options.k in n]
    print(f"{device.device_kind}, matrices of {options.size} × {options.size}", flush=True)
    seconds = REFERENCE_SHARE * (until - time.monotonic())
    losses = reference_losses(cases, full, seconds, worker)
    task = {"cases": cases, "size": options.size, "full": full, "losses": losses}
    rows: list[Row] = []
    for number, framework in enumerate(options.frameworks):
        # What one does not need is the others'.
        parts = [SHARES.get(name, 1) for name in options.frameworks[number:]]
        share = (until - time.monotonic()) * parts[0] / sum(parts)
        rows += measure_all(framework, task, time.monotonic() + share, worker)
        if options.json:  # also what was measured before something went wrong
            record = {"device": device.device_kind, "size": options.size, "rows": rows}
            add_shares(rows)
            Path(options.json).write_text(json.dumps(record, indent=1))
    add_shares(rows)
    print(table(rows))
    failed = any(r["framework"] == "funcdl" and "failed" in r for r in rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
