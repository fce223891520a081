"""Trials: the ways in which a kernel may be run, compiled, timed on a device, and compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from funcdl.errors import CudaError, DeviceError
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.ir import Buffer
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.device_memory import Allocation
from funcdl.runtime.cuda.launch import Kernel as Launchable
from funcdl.runtime.cuda.timing import time_in_turn

_log = logging.getLogger("funcdl.autotune")

SLOWER_ESTIMATE = 1.5
"""Candidates are left out that the estimate puts beyond this multiple of the best."""
MOST_CANDIDATES = 12
SAME = 1.02
"""Times within this factor are noise, and the first candidate of the list wins."""

_FILL = 1 << 22  # elements that are copied from the host; the rest of a buffer repeats them

Compile = Callable[[Sequence[TritonKernel], int], list[Cubin]]


@dataclass(slots=True)
class Variant:
    """One way to run a kernel, and what has become of it.

    `knobs` and `text` name it; `seconds` is its estimate. `why_not` says why it was left out.
    """

    text: str
    knobs: dict[str, int]
    kernel: TritonKernel
    seconds: float
    cubin: Cubin | None = None
    milliseconds: float | None = None
    why_not: str = ""


@dataclass(slots=True)
class Trial:
    """A kernel to be tuned: the key of its kept choice, and its variants, the default first."""

    name: str
    key: str
    buffers: Sequence[Buffer]
    variants: list[Variant] = field(default_factory=list)


def run_trials(trials: Sequence[Trial], gpu: CudaDevice, compile: Compile) -> None:
    """Time the variants of some kernels, and set what has become of each.

    The caller holds the device's lock, and has left out what need not be compiled. Kernels that are
    not made from the IR can be given here, too.
    """
    variants = [v for trial in trials for v in trial.variants if not v.why_not]
    _make_cubins(variants, gpu.capability, compile)
    for trial in trials:
        _leave_out_by_metadata(trial.variants, gpu.modules.shared_limit)
        _time(trial, gpu)
        _report(trial, gpu.device.device_kind)


def leave_out_by_estimate(variants: Sequence[Variant]) -> None:
    """Leave out what is estimated to be much slower than the best, and what is too many.

    The first one, which is used where nothing is measured, stays.
    """
    rest = sorted((v for v in variants[1:] if not v.why_not), key=lambda v: v.seconds)
    best = min((v.seconds for v in (*variants[:1], *rest)), default=0.0)
    for rank, variant in enumerate(rest, 2):
        ratio = variant.seconds / best
        if ratio > SLOWER_ESTIMATE:
            variant.why_not = f"estimated at {ratio:.1f} times the best"
        elif rank > MOST_CANDIDATES:
            variant.why_not = f"there are {MOST_CANDIDATES} with better estimates"


def choose(variants: Sequence[Variant]) -> Variant | None:
    """The fastest; of those as good as equal, the first of the list; None where none was timed."""
    times = [v.milliseconds for v in variants if v.milliseconds is not None]
    if not times:
        return None
    bound = min(times) * SAME
    return next(v for v in variants if v.milliseconds is not None and v.milliseconds <= bound)


def _make_cubins(variants: Sequence[Variant], arch: int, compile: Compile) -> None:
    """All at a time, or one by one where one of them cannot be compiled."""
    try:
        cubins = compile([v.kernel for v in variants], arch) if variants else []
        for variant, cubin in zip(variants, cubins, strict=True):
            variant.cubin = cubin
    except DeviceError:
        for variant in variants:
            try:
                (variant.cubin,) = compile([variant.kernel], arch)
            except DeviceError as error:
                variant.why_not = f"does not compile: {_first_line(error)}"


def _leave_out_by_metadata(variants: Sequence[Variant], shared_limit: int) -> None:
    made = [(v, v.cubin.metadata) for v in variants if v.cubin is not None and not v.why_not]
    least = min((m.get("stack_bytes", 0) for _, m in made), default=0)
    for variant, metadata in made:
        spilled = metadata.get("stack_bytes", 0) - least
        registers = metadata.get("registers", 0) * 32 * metadata["num_warps"]
        if metadata["shared"] > shared_limit:
            variant.why_not = f"needs {metadata['shared']} bytes of shared memory"
        elif registers > 1 << 16:
            variant.why_not = f"needs {registers} registers, and a processor has 65536"
        elif spilled > 0:
            variant.why_not = f"{spilled} bytes of registers spilled"


def _time(trial: Trial, gpu: CudaDevice) -> None:
    loaded: list[Launchable] = []
    timed = []
    for variant in trial.variants:
        if variant.why_not or variant.cubin is None:
            continue
        try:
            function = gpu.modules.load(variant.cubin.data, variant.cubin.metadata)
        except (DeviceError, CudaError) as error:
            variant.why_not = f"cannot be loaded: {_first_line(error)}"
            continue
        programs, count = prod(variant.kernel.grid), len(trial.buffers)
        loaded.append(Launchable(function, _never, programs, count))
        timed.append(variant)
    if not timed:
        return
    try:
        memory = [_scratch(gpu, buffer) for buffer in trial.buffers]
    except DeviceError as error:
        for variant in timed:
            variant.why_not = f"no memory to try it: {_first_line(error)}"
        return
    times = time_in_turn(gpu.stream, loaded, [m.address for m in memory])
    for variant, time in zip(timed, times, strict=True):
        if isinstance(time, Exception):
            variant.why_not = f"does not run: {_first_line(time)}"
        else:
            variant.milliseconds = time


def _scratch(gpu: CudaDevice, buffer: Buffer) -> Allocation:
    """Memory for a buffer: numbers from 0 to 1, zeros where they may be positions."""
    nbytes = buffer.size * buffer.dtype.itemsize
    memory = gpu.pool.empty(nbytes, f"trying schedules: {buffer.dtype.name}[{buffer.size}]")
    count = min(buffer.size, _FILL)
    host: np.ndarray[Any, Any] = np.zeros(count, buffer.dtype)
    if buffer.dtype.kind not in "biu":
        host[:] = np.random.default_rng(0).random(count, np.float32)
    if not count:
        return memory
    gpu.stream.activate()
    gpu.staging.to_device(host, memory.address)
    done = host.nbytes
    while done < nbytes:
        part = min(done, nbytes - done)
        ends = (memory.address + done, memory.address, part)
        gpu.driver.call("cuMemcpyDtoDAsync", *ends, gpu.stream.handle)
        done += part
    return memory


def _report(trial: Trial, device: str) -> None:
    best = choose(trial.variants)
    timed = [v for v in trial.variants if v.milliseconds is not None]
    counts = f"{len(trial.variants)} candidates, {len(timed)} timed"
    if best is None:
        _log.info("%s on %s: nothing could be timed; %s", trial.name, device, counts)
    else:
        first = trial.variants[0].milliseconds
        default = "" if first is None else f" (default {_microseconds(first)})"
        taken = _microseconds(best.milliseconds or 0.0)
        _log.info("%s on %s: %s, %s%s; %s", trial.name, device, best.text, taken, default, counts)
    for variant in trial.variants:
        outcome = f"left out, {variant.why_not}"
        if variant.milliseconds is not None:
            outcome = _microseconds(variant.milliseconds)
        _log.debug("  %s: %s", variant.text, outcome)


def _microseconds(milliseconds: float) -> str:
    return f"{1e3 * milliseconds:.1f} us"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _never() -> Any:
    raise AssertionError("scratch memory is aligned")
