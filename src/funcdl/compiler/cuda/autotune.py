"""Choose each kernel's knobs for a device: kept choices, the shipped table, or measurements.

docs/autotuning.md describes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from funcdl.compiler.cuda.candidates import (
    VERSION,
    Candidate,
    candidates,
    from_json,
    refinements,
    to_json,
)
from funcdl.compiler.cuda.defaults import default_knobs
from funcdl.compiler.cuda.roofline import GpuModel, estimate, model_of, shared_bytes
from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.config import config
from funcdl.errors import CudaError, DeviceError
from funcdl.kernels.triton.blocks import UnsupportedKernel
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.cubin_cache import triton_version
from funcdl.kernels.triton.library import kernels as library
from funcdl.kernels.triton.library.template import Tiles
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.canonical import canonical_kernel
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import Buffer, Dot, Kernel
from funcdl.kir.printer import format_kernel
from funcdl.kir.schedule import Schedule
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.device_memory import Allocation
from funcdl.runtime.cuda.launch import Kernel as Launchable
from funcdl.runtime.cuda.timing import time_in_turn
from funcdl.runtime.disk_cache import CacheDir, default_cache

_log = logging.getLogger("funcdl.autotune")

SLOWER_ESTIMATE = 1.5
"""Candidates are left out that the estimate puts beyond this multiple of the best."""
MOST_CANDIDATES = 12
LEANER = 6
"""How many schedules are tried in place of one that spills registers."""
SAME = 1.02
"""Times within this factor are noise, and the first candidate of the list wins."""

_SUFFIX = ".tuning"
_FILL = 1 << 22  # elements that are copied from the host; the rest of a buffer repeats them

Compile = Callable[[Sequence[TritonKernel], int], list[Cubin]]
Render = Callable[[Kernel, Schedule], TritonKernel]


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


class Autotuner:
    """Chooses knobs on one back end.

    Args:
      render: kernel IR to Triton source.
      compile: Triton source to machine code.
      cache: where choices are kept; by default the user's folder.
    """

    def __init__(self, render: Render, compile: Compile, cache: CacheDir | None = None) -> None:
        self._render = render
        self._compile = compile
        self._cache = cache

    def schedules(
        self, kernels: Sequence[tuple[Kernel, Schedule]], gpu: CudaDevice
    ) -> list[Schedule]:
        """The schedules to use on a device, in place of those that know no device.

        Schedules that are not the heuristics' were made by hand, and stay.
        """
        mode = config.autotune
        free = [schedule == schedule_gpu(kernel) for kernel, schedule in kernels]
        keys = [self.key(k, gpu) if f else "" for (k, _), f in zip(kernels, free, strict=True)]
        kept = {key: self._kept(key, mode) for key in dict.fromkeys(keys) if key}
        if mode != "0" and any(knobs is None for knobs in kept.values()):
            pairs = zip(keys, kernels, strict=True)
            missing = {key: kernel for key, (kernel, _) in pairs if key and kept[key] is None}
            kept |= self._tune_all(missing, gpu, mode == "exhaustive")
        found = []
        for key, (kernel, schedule) in zip(keys, kernels, strict=True):
            if not key:
                found.append(schedule)
                continue
            knobs = kept[key]
            if knobs is None:
                wanted = schedule_gpu(kernel, default_knobs(kernel, gpu.capability))
            else:
                wanted = _schedule_of(kernel, knobs)
            found.append(self._usable(kernel, schedule, wanted))
        return found

    def key(self, kernel: Kernel, gpu: CudaDevice) -> str:
        """What a choice depends on: kernels that differ in names only share it."""
        parts = [
            VERSION,
            triton_version(),
            gpu.device.device_kind,
            gpu.capability,
            _text(kernel),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def tune(self, trials: Sequence[Trial], gpu: CudaDevice) -> None:
        """Time the variants of some kernels, and set what has become of each.

        The caller holds the device's lock, and has left out what need not be compiled. Kernels
        that are not made from the IR can be given here, too.
        """
        variants = [v for trial in trials for v in trial.variants if not v.why_not]
        self._make_cubins(variants, gpu.capability)
        for trial in trials:
            _leave_out_by_metadata(trial.variants, gpu.modules.shared_limit)
            self._time(trial, gpu)
            _report(trial, gpu.device.device_kind)

    # What is kept

    def _kept(self, key: str, mode: str) -> dict[str, int] | None:
        text = self._folder.get_text(key, _SUFFIX)
        if text is None:
            return None
        record = json.loads(text)
        if mode == "exhaustive" and record["mode"] != mode:
            return None
        knobs: dict[str, int] = record["knobs"]
        return knobs

    def keep(self, trial: Trial, best: Variant, gpu: CudaDevice, mode: str) -> None:
        """Keep a choice for later processes."""
        record = {
            "kernel": trial.name,
            "device": gpu.device.device_kind,
            "knobs": best.knobs,
            "milliseconds": best.milliseconds,
            "mode": mode,
        }
        self._folder.remove(trial.key, _SUFFIX)
        self._folder.put(trial.key, _SUFFIX, json.dumps(record, sort_keys=True))

    @property
    def _folder(self) -> CacheDir:
        return self._cache or default_cache()

    def _usable(self, kernel: Kernel, schedule: Schedule, wanted: Schedule) -> Schedule:
        """The wanted schedule, unless the kernel cannot be written with it."""
        if wanted != schedule:
            try:
                self._render(kernel, wanted)
            except UnsupportedKernel:
                return schedule
        return wanted

    # Tuning

    def _tune_all(
        self, kernels: dict[str, Kernel], gpu: CudaDevice, exhaustive: bool
    ) -> dict[str, dict[str, int] | None]:
        """Tune what nobody has tuned meanwhile; one process and thread at a time."""
        mode = "exhaustive" if exhaustive else "1"
        chosen: dict[str, dict[str, int] | None] = {}
        lock = f"autotune-{gpu.device.device_kind}-{gpu.device.id}"
        with gpu.lock, self._folder.lock(lock):
            trials = []
            for key, kernel in kernels.items():
                chosen[key] = self._kept(key, mode)
                if chosen[key] is None:
                    options = _options(kernel, gpu.capability, exhaustive)
                    trials.append(self._trial(key, kernel, options, gpu.capability, exhaustive))
            trials = [trial for trial in trials if len(trial.variants) > 1]
            self.tune(trials, gpu)
            refined = []
            for trial in trials:
                kernel, best = kernels[trial.key], choose(trial.variants)
                if best is not None and kernel.library is None:
                    knobs = from_json({**best.knobs})
                    found = refinements(kernel, knobs, gpu.processors, exhaustive=exhaustive)
                    options = (_option(kernel, c, model_of(gpu.capability)) for c in found)
                    refined.append(
                        self._trial(trial.key, kernel, options, gpu.capability, exhaustive)
                    )
            refined = [trial for trial in refined if len(trial.variants) > 1]
            self.tune(refined, gpu)
            # Where there is nothing to refine, or no more time could be taken, the first choice.
            for trial in (*trials, *refined):
                best = choose(trial.variants)
                if best is not None:
                    chosen[trial.key] = best.knobs
                    self.keep(trial, best, gpu, mode)
        return chosen

    def _trial(
        self,
        key: str,
        kernel: Kernel,
        options: Iterable[_Option],
        capability: int,
        exhaustive: bool,
    ) -> Trial:
        """The candidates of a kernel, without those that the estimate gives no chance."""
        model = model_of(capability)
        trial = Trial(kernel.name, key, kernel.buffers)
        for option in options:
            try:
                rendered = self._render(kernel, _schedule_of(kernel, option.knobs))
            except UnsupportedKernel:  # runs on the host, whatever its schedule
                continue
            variant = Variant(option.text, option.knobs, rendered, option.seconds)
            if option.shared > model.shared_bytes:
                variant.why_not = f"needs {option.shared} bytes of shared memory or more"
            trial.variants.append(variant)
        if not exhaustive:
            leave_out_by_estimate(trial.variants)
        return trial

    def _make_cubins(self, variants: Sequence[Variant], arch: int) -> None:
        """All at a time, or one by one where one of them cannot be compiled."""
        try:
            cubins = self._compile([v.kernel for v in variants], arch) if variants else []
            for variant, cubin in zip(variants, cubins, strict=True):
                variant.cubin = cubin
        except DeviceError:
            for variant in variants:
                try:
                    (variant.cubin,) = self._compile([variant.kernel], arch)
                except DeviceError as error:
                    variant.why_not = f"does not compile: {_first_line(error)}"

    def _time(self, trial: Trial, gpu: CudaDevice) -> None:
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


@dataclass(frozen=True, slots=True)
class _Option:
    """What may be tried, before it is written: see `Variant`, and bytes of shared memory."""

    text: str
    knobs: dict[str, int]
    seconds: float
    shared: int


def _options(kernel: Kernel, capability: int, exhaustive: bool) -> Iterator[_Option]:
    model = model_of(capability)
    if kernel.library is None:
        first = default_knobs(kernel, capability)
        for candidate in candidates(kernel, first, exhaustive=exhaustive):
            yield _option(kernel, candidate, model)
        return
    for tiles in library.candidates(kernel.library):
        least = library.estimate(kernel.library, tiles)
        seconds = max(least.bytes / model.bandwidth, least.flops / model.half_rate)
        knobs = {**dict(tiles.blocks), "warps": tiles.num_warps, "stages": tiles.num_stages}
        text = " ".join(f"{name}={value}" for name, value in knobs.items())
        yield _Option(text, knobs, seconds, least.shared)


def _option(kernel: Kernel, candidate: Candidate, model: GpuModel) -> _Option:
    seconds = estimate(kernel, candidate.schedule, model)
    shared = shared_bytes(kernel, candidate.schedule)
    return _Option(candidate.label, to_json(candidate.knobs), seconds, shared)


def leaner_schedules(
    kernel: Kernel, schedule: Schedule, capability: int, shared_limit: int
) -> list[Schedule]:
    """What to take, the best first, where there are not the registers that a schedule needs, or
    not the shared memory.

    A few schedules that give a thread fewer elements, by the estimate; of a hand-written kernel,
    its other tiles.
    """
    if kernel.library is not None:
        return [library.schedule_of(tiles) for tiles in library.candidates(kernel.library)[1:]]
    held = _elements_held(kernel, schedule)
    model = model_of(capability)
    tried = candidates(kernel, default_knobs(kernel, capability))
    found = [_with_fewer_stages(kernel, c.schedule, shared_limit) for c in tried]
    found = [s for s in dict.fromkeys(found) if _elements_held(kernel, s) < held]
    found = [s for s in found if shared_bytes(kernel, s) <= shared_limit]
    return sorted(found, key=lambda s: estimate(kernel, s, model))[:LEANER]


def _with_fewer_stages(kernel: Kernel, schedule: Schedule, shared_limit: int) -> Schedule:
    """A product's pipeline cut to what fits into shared memory, but not to less than two tiles."""
    while schedule.num_stages > 2 and shared_bytes(kernel, schedule) > shared_limit:
        schedule = replace(schedule, num_stages=schedule.num_stages - 1)
    return schedule


def _elements_held(kernel: Kernel, schedule: Schedule) -> float:
    """Elements of a block for each thread; a product's factors are in shared memory."""
    dots = {i.k for i in integer_dot_as_sum(conv_as_dot(kernel)).body if isinstance(i, Dot)}
    sizes = [s.size for s in schedule.steps if s.kind == "vector" and s.axis not in dots]
    return prod(sizes) / (32 * schedule.num_warps)


def _schedule_of(kernel: Kernel, knobs: Mapping[str, int]) -> Schedule:
    """The schedule that kept numbers make."""
    if kernel.library is None:
        return schedule_gpu(kernel, from_json({**knobs}))
    blocks = dict(knobs)
    warps, stages = blocks.pop("warps"), blocks.pop("stages")
    return library.schedule_of(Tiles(tuple(blocks.items()), warps, stages))


def _text(kernel: Kernel) -> str:
    """What a kernel computes, without names."""
    if kernel.library is None:
        return format_kernel(canonical_kernel(kernel))
    buffers = [(buffer.dtype.name, buffer.size, buffer.role) for buffer in kernel.buffers]
    return repr((kernel.library.function, kernel.library.problem, buffers))


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
