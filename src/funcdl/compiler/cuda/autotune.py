"""Choose each kernel's knobs for a device: kept choices, the shipped table, or measurements.

docs/autotuning.md describes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
from funcdl.compiler.cuda.trials import (
    Compile,
    Trial,
    Variant,
    choose,
    leave_out_by_estimate,
    run_trials,
)
from funcdl.config import config
from funcdl.kernels.triton.blocks import UnsupportedKernel
from funcdl.kernels.triton.cubin_cache import triton_version
from funcdl.kernels.triton.library import kernels as library
from funcdl.kernels.triton.library.template import Tiles
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.canonical import canonical_kernel
from funcdl.kir.ir import Kernel
from funcdl.kir.printer import format_kernel
from funcdl.kir.schedule import Schedule
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.disk_cache import CacheDir, default_cache

_SUFFIX = ".tuning"

Render = Callable[[Kernel, Schedule], TritonKernel]


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
            run_trials(trials, gpu, self._compile)
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
            run_trials(refined, gpu, self._compile)
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
