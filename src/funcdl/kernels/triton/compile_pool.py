"""Compile the kernels of a program, several at a time, those kept on disk not at all.

The workers are processes of their own program (`compile_workers`): Triton compiles on one core.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Sequence

from funcdl.errors import DeviceError
from funcdl.kernels.triton.compile import Cubin, check_version
from funcdl.kernels.triton.compile_workers import WorkerError, borrowed_worker
from funcdl.kernels.triton.cubin_cache import find_cubin, keep_cubin, triton_version
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.runtime.disk_cache import CacheDir

KERNELS_PER_WORKER = 2
"""Below this number, another worker's start takes longer than it saves."""
SILENT_SECONDS = 2.0


def compile_all(
    kernels: Sequence[TritonKernel],
    arch: int,
    *,
    aligned: bool = True,
    cache: CacheDir | None = None,
    workers: int | None = None,
) -> list[Cubin]:
    """The cubins of kernels, in their order; what had to be compiled is kept.

    Args:
      arch: compute capability, as 90.
      aligned: whether all pointers will be divisible by 16.
      cache: where cubins are kept; by default the user's folder.
      workers: processes at most; by default one for each core.

    Raises:
      DeviceError: Triton is not installed, is too old, or cannot compile a kernel; with its
        message.
    """
    found = [find_cubin(kernel, arch, aligned, cache) for kernel in kernels]
    missing = [i for i, cubin in enumerate(found) if cubin is None]
    if missing:
        check_version(triton_version())
        limit = workers or len(os.sched_getaffinity(0))
        count = max(1, min(limit, -(-len(missing) // KERNELS_PER_WORKER)))
        job = _Job([kernels[i] for i in missing], arch, aligned)
        for i, cubin in zip(missing, job.run(count), strict=True):
            keep_cubin(kernels[i], arch, aligned, cubin, cache)
            found[i] = cubin
    return [cubin for cubin in found if cubin is not None]


class _Job:
    """Kernels to compile: workers take the next one each until none is left."""

    def __init__(self, kernels: Sequence[TritonKernel], arch: int, aligned: bool) -> None:
        self._kernels = kernels
        self._arch = arch
        self._aligned = aligned
        self._results: list[Cubin | None] = [None] * len(kernels)
        self._next = iter(range(len(kernels)))
        self._lock = threading.Lock()
        self._error: str | None = None

    def run(self, workers: int) -> list[Cubin]:
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        self._wait(threads)
        if self._error is not None:
            raise DeviceError(self._error)
        return [cubin for cubin in self._results if cubin is not None]

    def _wait(self, threads: Sequence[threading.Thread]) -> None:
        """Wait, and after two seconds say how far it is, once a second."""
        start = time.monotonic()
        terminal = sys.stderr.isatty()
        shown = False
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.5 / len(threads))
            if time.monotonic() - start > SILENT_SECONDS and (terminal or not shown):
                done = sum(cubin is not None for cubin in self._results)
                text = (
                    f"funcdl: compiled {done} of {len(self._results)} kernels for sm_{self._arch}"
                )
                print(f"\r{text}" if terminal else f"{text} …", end="", file=sys.stderr)
                sys.stderr.flush()
                shown = True
        if shown:
            seconds = time.monotonic() - start
            text = f"funcdl: compiled {len(self._results)} kernels in {seconds:.0f} s"
            print(f"\r{text}        " if terminal else f"\n{text}", file=sys.stderr)

    def _serve(self) -> None:
        """One worker, as long as there are kernels and no error."""
        try:
            with borrowed_worker() as worker:
                while (number := self._take()) is not None:
                    kernel = self._kernels[number]
                    request = {
                        "kernel": dataclasses.asdict(kernel),
                        "arch": self._arch,
                        "aligned": self._aligned,
                    }
                    answer = worker.ask(request)
                    if "error" in answer:
                        self._fail(f"kernel {kernel.name} could not be compiled: {answer['error']}")
                    else:
                        code = base64.b64decode(answer["code"])
                        self._results[number] = Cubin(code, answer["metadata"])
        except WorkerError as error:
            self._fail(str(error))

    def _take(self) -> int | None:
        with self._lock:
            return None if self._error is not None else next(self._next, None)

    def _fail(self, message: str) -> None:
        with self._lock:
            self._error = self._error or message
