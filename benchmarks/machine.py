"""What this machine can do at most, in the minute of the benchmarks: the only figures to compare
theirs with."""

from __future__ import annotations

from funcdl.kernels.cpu_c.machine_peaks import measure_peaks


def peaks(threads: int) -> dict[str, float]:
    """``{"gflops": ..., "gbytes": ...}``: the best of several runs on that many threads."""
    found = measure_peaks(threads)
    return {"gflops": found.flops / 1e9, "gbytes": found.bandwidth / 1e9}
