"""Measures the cases of `benchmarks.gpu` with one framework, in a process of its own.

``python -m benchmarks.gpu_worker FRAMEWORK FILE JSON`` appends a line of JSON to the file before
each case and one after it, so that whoever started it knows where it ended. A kernel that faults
takes its process's GPU context with it, and no other framework's. In the place of a framework
``references`` appends the losses of training steps in float64, computed on the CPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.frameworks import Framework
from benchmarks.gpu_cases import Case, kernel_cases
from benchmarks.gpu_models import Model, models, reference_losses, torch_optimizer

ROUNDS = 5
ROUND_SECONDS = 0.1
COPY = "copy on the device"
SMALL = "call of a small step"
"""Two products of small matrices: what it takes is what a call takes, whatever is computed."""
SMALL_SIDE = 32
TORCH = ("torch", "torch.compile")

Row = dict[str, Any]
Call = Callable[[], Any]


class WrongResultError(Exception):
    """A result is further from the reference than allowed."""


class General:
    """funcdl or JAX."""

    def __init__(self, name: str, device: str = "gpu") -> None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        self.names = Framework(name)
        self.target = self.names.fd.devices(device)[0]
        self.wait = self.names.fd.block_until_ready
        self._is_ours = name == "funcdl"

    def put(self, tree: Any) -> Any:
        return self.names.fd.tree.map(lambda x: self.names.fd.device_put(x, self.target), tree)

    @contextlib.contextmanager
    def rounding(self, precision: str) -> Iterator[None]:
        with self.names.fd.default_matmul_precision(precision):
            yield

    def kernel(self, case: Case) -> Call:
        f, count = self.names, case.gradient

        def value(*xs: Any) -> Any:
            return case.general(f, *xs)

        def gradients(*xs: Any) -> Any:
            *xs, ct = xs
            rest = xs[count:]
            return f.fd.vjp(lambda *ys: value(*ys, *rest), *xs[:count])[1](ct)

        jitted = f.fd.jit(gradients if count else value)
        args = self.put(list(case.arrays().values()))
        return lambda: jitted(*args)

    def model(self, model: Model) -> Call:
        jitted = self.names.fd.jit(model.step(self.names), donate_argnums=(0, 1, 2, 3))
        p, zeros = model.parameters(), self.names.fd.tree.map(np.zeros_like, model.parameters())
        state = [*self.put([p, zeros, zeros]), self.put(np.float32(0))]
        # Donated arrays must not be one another's.
        state[2] = self.put(zeros)
        batch = self.put(list(model.batch()))

        def call() -> Any:
            value, *state[:] = jitted(*state, *batch)
            return value

        return call

    def small(self) -> Call:
        fnp = self.names.np
        step = self.names.fd.jit(lambda w, x: w - 1e-3 * x.T @ fnp.tanh(x @ w), donate_argnums=0)
        w, x = self.put(_small_matrices())

        def call() -> Any:
            nonlocal w
            w = step(w, x)
            return w

        return call

    def copy(self, nbytes: int) -> tuple[Call, Callable[[Any], Any]]:
        if not self._is_ours:
            # A product by one might be left out; a copy to another place is what is wanted.
            x = self.put(np.zeros(nbytes, np.uint8))
            copied = self.names.fd.jit(lambda x: self.names.np.array(x, copy=True))
            return lambda: copied(x), self.wait
        from funcdl.core.devices import platform_of

        gpu: Any = platform_of("gpu").open(0)
        source, target = (gpu.pool.empty(nbytes, "a benchmark") for _ in range(2))

        def call() -> None:
            gpu.stream.activate()
            places = (target.address, source.address)
            gpu.driver.call("cuMemcpyDtoDAsync", *places, nbytes, gpu.stream.handle)

        return call, lambda _: gpu.stream.synchronize()

    def numbers(self, x: Any) -> np.ndarray:
        return np.asarray(x).astype(np.float64)


class Torch:
    """PyTorch, eager or compiled."""

    def __init__(self, name: str, device: str = "cuda") -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("this PyTorch has no CUDA")
        self.torch = torch
        self.device = device
        self._compile = torch.compile if name == "torch.compile" else lambda f: f

    def wait(self, out: Any) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def put(self, x: np.ndarray) -> Any:
        if x.dtype == ml_dtypes.bfloat16:
            return self.put(x.astype(np.float32)).bfloat16()
        return self.torch.from_numpy(np.array(x, order="C")).to(self.device)

    @contextlib.contextmanager
    def rounding(self, precision: str) -> Iterator[None]:
        self.torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
        self.torch.backends.cudnn.allow_tf32 = precision != "highest"
        yield

    def kernel(self, case: Case) -> Call:
        torch, count = self.torch, case.gradient
        function = self._compile(lambda *xs: case.torch(torch, *xs))
        args = [self.put(x) for x in case.arrays().values()]
        if not count:

            def value() -> Any:
                with torch.no_grad():
                    return function(*args)

            return value
        *args, ct = args
        for x in args[:count]:
            x.requires_grad_()
        return lambda: torch.autograd.grad(function(*args), args[:count], ct)

    def model(self, model: Model) -> Call:
        module = model.torch(self.torch, model.parameters()).to(self.device)
        optimizer = torch_optimizer(self.torch, module)
        batch = [self.put(x) for x in model.batch()]
        function = self._compile(lambda *xs: model.torch_loss(self.torch, module, *xs))

        def call() -> Any:
            optimizer.zero_grad(set_to_none=True)
            value = function(*batch)
            value.backward()
            optimizer.step()
            return value.detach()

        return call

    def small(self) -> Call:
        torch = self.torch
        step = self._compile(lambda w, x: w - 1e-3 * x.T @ torch.tanh(x @ w))
        w, x = map(self.put, _small_matrices())

        def call() -> Any:
            nonlocal w
            with torch.no_grad():
                w = step(w, x)
            return w

        return call

    def copy(self, nbytes: int) -> tuple[Call, Callable[[Any], Any]]:
        source, target = (
            self.torch.zeros(nbytes, dtype=self.torch.uint8, device=self.device) for _ in range(2)
        )
        return lambda: target.copy_(source), self.wait

    def numbers(self, x: Any) -> np.ndarray:
        found: np.ndarray = x.detach().double().cpu().numpy()
        return found


def _small_matrices() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((SMALL_SIDE, SMALL_SIDE), np.float32) for _ in range(2)]


def seconds(call: Call, wait: Callable[[Any], Any]) -> float:
    """The time of one call: the best of several rounds of calls that are waited for at the end."""
    for _ in range(5):  # compiles, and warms up graphs
        wait(call())
    start = time.perf_counter()
    wait(call())
    count = max(1, int(ROUND_SECONDS / max(time.perf_counter() - start, 1e-6)))
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            out = call()
        wait(out)
        best = min(best, (time.perf_counter() - start) / count)
    return best


def case_names(size: int, full: bool) -> list[str]:
    """All cases, in the order in which they are measured."""
    return [COPY, SMALL, *(c.name for c in kernel_cases(size)), *(m.name for m in models(full))]


def measure(name: str, framework: Any, size: int, full: bool, losses: dict[str, Any]) -> Row:
    """The figures of one case.

    Raises:
      WrongResultError: the result is not the reference's.
      LookupError: a training step has no reference.
    """
    kernels = {case.name: case for case in kernel_cases(size)}
    if name == COPY:
        call, wait = framework.copy(4 * size * size)
        return _row(seconds(call, wait), nbytes=2 * 4 * size * size, kind="")
    if name == SMALL:
        return _row(seconds(framework.small(), framework.wait), kind="")
    if name in kernels:
        case = kernels[name]
        with framework.rounding(case.precision):
            call = framework.kernel(case)
            found = [framework.numbers(x) for x in case.sample(call())]
            error = _compare(found, case.reference(case.arrays()), case.tolerance)
            taken = seconds(call, framework.wait)
        return _row(taken, case.nbytes, case.flops, case.kind, error)
    model = next(m for m in models(full) if m.name == name)
    if name not in losses:
        raise LookupError("not measured: its losses in float64 were not computed in time")
    with framework.rounding("tensorfloat32"):
        call = framework.model(model)
        wanted = losses[name]
        # One at a time: arrays of one element each.
        values = [framework.numbers(call()).reshape(()) for _ in wanted]
        error = _compare(values, [np.asarray(x) for x in wanted], model.tolerance)
        return _row(seconds(call, framework.wait), kind="", error=error)


def _row(taken: float, nbytes: int = 0, flops: int = 0, kind: str = "", error: float = 0.0) -> Row:
    rates = {"GB/s": nbytes / taken / 1e9, "TFLOP/s": flops / taken / 1e12}
    return {"us": taken * 1e6, "kind": kind, "error": error} | rates


def _compare(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float) -> float:
    worst = 0.0
    for x, y in zip(found, wanted, strict=True):
        if x.shape != y.shape:
            raise WrongResultError(f"shape {x.shape} for {y.shape}")
        error = np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)
        if not error <= tolerance:  # also where it is no number
            raise WrongResultError(f"wrong by {error:.1e} of the largest, at most {tolerance:.0e}")
        worst = max(worst, float(error))
    return worst


def main(arguments: Sequence[str]) -> None:
    """Measure what the JSON says: names of cases, size, full, losses."""
    name, path, text = arguments
    task = json.loads(text)
    with open(path, "a") as file:

        def tell(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        if name == "references":
            for model in models(task["full"]):
                if model.name in task["cases"]:
                    tell({"case": model.name, "losses": reference_losses(model)})
            return
        try:
            framework = (Torch if name in TORCH else General)(name)
        except Exception as error:
            tell({"missing": f"{type(error).__name__}: {error}"[:300]})
            return
        for case in task["cases"]:
            tell({"case": case})
            try:
                figures = measure(case, framework, task["size"], task["full"], task["losses"])
            except Exception as error:
                text = (str(error).strip() or "no message").splitlines()[0]
                figures = {"failed": f"{type(error).__name__}: {text}"[:200]}
                # After a fault nothing works in this process.
                if type(error).__name__ == "CudaError" or "illegal" in str(error):
                    tell({"case": case} | figures)
                    os._exit(1)
            tell({"case": case} | figures)


if __name__ == "__main__":
    main(sys.argv[1:])
