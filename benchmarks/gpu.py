"""Kernels on a GPU beside PyTorch and JAX: ``python -m benchmarks.gpu``.

Each case's results are compared with a float64 reference before anything is timed. `GB/s` and
`TFLOP/s` count what the case must move and compute at least. `of peak` is the share of the copy
bandwidth, or of the matrix product rate of the same type, that this run has measured itself: the
bandwidth by the driver's own copy, the rate by the fastest framework's largest product. Times are
the best of several rounds of calls that are issued one after the other and waited for at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

ROUNDS = 5
ROUND_SECONDS = 0.1
FRAMEWORKS = ("funcdl", "torch", "jax")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One measurement.

    `run` maps each framework to a function of its arrays; `reference` is the same in float64.
    `nbytes` and `flops` are what must be moved and computed; one of them is the case's measure.
    """

    name: str
    arrays: Arrays
    run: dict[str, Callable[..., Any]]
    reference: Callable[..., np.ndarray]
    tolerance: float
    nbytes: int = 0
    flops: int = 0


def _frameworks(wanted: list[str]) -> dict[str, Any]:
    """The modules of the frameworks that are installed and see a GPU."""
    found: dict[str, Any] = {}
    if "funcdl" in wanted:
        import funcdl

        found["funcdl"] = funcdl
    if "torch" in wanted:
        try:
            import torch

            if torch.cuda.is_available():
                torch.backends.cuda.matmul.allow_tf32 = False
                found["torch"] = torch
        except ImportError:
            pass
    if "jax" in wanted:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        try:
            import jax

            if jax.default_backend() == "gpu":
                found["jax"] = jax
        except (ImportError, RuntimeError):
            pass
    return found


def _softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def cases(size: int) -> list[Case]:
    """All cases; `size` is the side of the largest matrices."""
    import funcdl.numpy as fnp
    from funcdl import nn

    def layer_norm(np_: Any) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            centred = x - np_.mean(x, -1, keepdims=True)
            return centred / np_.sqrt(np_.mean(centred * centred, -1, keepdims=True) + 1e-5)

        return run

    rng = np.random.default_rng(0)
    x = rng.normal(size=(size, size)).astype(np.float32)
    moved = 2 * x.nbytes
    jax_numpy = _lazy("jax.numpy")
    torch = _lazy("torch")
    found = [
        Case(
            "elementwise x * 2 + 1",
            {"x": x},
            dict.fromkeys(FRAMEWORKS, lambda x: x * 2 + 1),
            lambda x: x * 2 + 1,
            1e-6,
            nbytes=moved,
        ),
        Case(
            "softmax of rows",
            {"x": x},
            {
                "funcdl": lambda x: nn.softmax(x),
                "torch": lambda x: torch().softmax(x, -1),
                "jax": lambda x: _lazy("jax.nn")().softmax(x),
            },
            _softmax,
            1e-5,
            nbytes=moved,
        ),
        Case(
            "layer norm of rows",
            {"x": x},
            {
                "funcdl": layer_norm(fnp),
                "torch": lambda x: torch().nn.functional.layer_norm(x, x.shape[-1:]),
                "jax": lambda x: layer_norm(jax_numpy())(x),
            },
            _layer_norm,
            1e-4,
            nbytes=moved,
        ),
        Case(
            "column sums",
            {"x": x},
            dict.fromkeys(FRAMEWORKS, lambda x: x.sum(0)),
            lambda x: x.sum(0),
            1e-3,
            nbytes=x.nbytes,
        ),
    ]
    for side in (size // 4, size):
        for name, dtype, tolerance in (
            ("float32", np.dtype(np.float32), 1e-4),
            ("bfloat16", np.dtype(ml_dtypes.bfloat16), 2e-2),
        ):
            pair = {k: rng.normal(size=(side, side)).astype(dtype) for k in ("a", "b")}
            found.append(
                Case(
                    f"matmul {name} {side}",
                    pair,
                    dict.fromkeys(FRAMEWORKS, lambda a, b: a @ b),
                    lambda a, b: a @ b,
                    tolerance,
                    flops=2 * side**3,
                )
            )
    found.append(_mlp_step(rng, size))
    return found


def _mlp_step(rng: np.random.Generator, size: int) -> Case:
    """Loss and gradients of two layers, as one sum, so that one number can be compared."""
    batch, width = max(size // 8, 4), max(size // 4, 4)
    arrays = {
        "x": rng.normal(size=(batch, width)).astype(np.float32),
        "w": (rng.normal(size=(width, width)) / width**0.5).astype(np.float32),
        "v": (rng.normal(size=(width, width)) / width**0.5).astype(np.float32),
    }

    def with_jax(module: str, numpy: str) -> Callable[..., Any]:
        def run(x: Any, w: Any, v: Any) -> Any:
            tanh = _lazy(numpy)().tanh
            grad = _lazy(module)().grad(lambda w, v: ((tanh(x @ w) @ v) ** 2).mean(), (0, 1))
            left, right = grad(w, v)
            return left + right

        return run

    def with_torch(x: Any, w: Any, v: Any) -> Any:
        w, v = w.detach().requires_grad_(), v.detach().requires_grad_()
        loss = ((_lazy("torch")().tanh(x @ w) @ v) ** 2).mean()
        left, right = _lazy("torch")().autograd.grad(loss, (w, v))
        return left + right

    def reference(x: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        hidden = np.tanh(x @ w)
        out = hidden @ v
        ct = 2 * out / out.size
        return x.T @ ((ct @ v.T) * (1 - hidden**2)) + hidden.T @ ct

    run = {
        "funcdl": with_jax("funcdl", "funcdl.numpy"),
        "jax": with_jax("jax", "jax.numpy"),
        "torch": with_torch,
    }
    return Case(
        "MLP gradient float32", arrays, run, reference, 1e-3, flops=5 * 2 * batch * width * width
    )


def _lazy(name: str) -> Callable[[], Any]:
    import importlib

    return lambda: importlib.import_module(name)


def _prepare(framework: str, module: Any, case: Case) -> tuple[Callable[[], Any], Any]:
    """A call of a case on the device, and what waits for its result."""
    function = case.run[framework]
    if framework == "torch":
        args = [_to_torch(module, x) for x in case.arrays.values()]
        return lambda: function(*args), lambda out: module.cuda.synchronize()
    target = "gpu" if framework == "funcdl" else module.devices("gpu")[0]
    args = [module.device_put(x, target) for x in case.arrays.values()]
    jitted = module.jit(function)
    return lambda: jitted(*args), module.block_until_ready


def _to_torch(torch: Any, x: np.ndarray) -> Any:
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.astype(np.float32)).cuda().bfloat16()
    return torch.from_numpy(x).cuda()


def _to_numpy(out: Any) -> np.ndarray:
    if hasattr(out, "cpu"):
        return np.asarray(out.float().cpu().numpy(), np.float64)
    return np.asarray(out).astype(np.float64)


def seconds(call: Callable[[], Any], wait: Callable[[Any], Any]) -> float:
    """The time of one call: the best of several rounds."""
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


def copy_bandwidth(nbytes: int) -> float:
    """Bytes that the driver's own copy moves in a second, counted once read and once written."""
    from funcdl.core.devices import platform_of

    gpu: Any = platform_of("gpu").open(0)
    source, target = (gpu.pool.empty(nbytes, "a benchmark") for _ in range(2))

    def call() -> None:
        gpu.stream.activate()
        places = (target.address, source.address)
        gpu.driver.call("cuMemcpyDtoDAsync", *places, nbytes, gpu.stream.handle)

    return 2 * nbytes / seconds(call, lambda _: gpu.stream.synchronize())


def measure(size: int, wanted: list[str]) -> list[dict[str, Any]]:
    """A row for each case and framework.

    Raises:
      AssertionError: a result is wrong.
    """
    rows: list[dict[str, Any]] = []
    bandwidth = copy_bandwidth(4 * size * size)
    modules = _frameworks(wanted)
    for case in cases(size):
        exact = case.reference(*(x.astype(np.float64) for x in case.arrays.values()))
        for framework, module in modules.items():
            call, wait = _prepare(framework, module, case)
            error = np.abs(_to_numpy(call()) - exact).max() / max(np.abs(exact).max(), 1e-30)
            assert error <= case.tolerance, f"{case.name} by {framework} is wrong by {error:.1e}"
            taken = seconds(call, wait)
            row = {"case": case.name, "framework": framework, "us": taken * 1e6, "error": error}
            row |= {"GB/s": case.nbytes / taken / 1e9, "TFLOP/s": case.flops / taken / 1e12}
            rows.append(row)
    for row in rows:
        kind = "bfloat16" if "bfloat16" in row["case"] else "float32"
        rates = [r["TFLOP/s"] for r in rows if r["case"].startswith(f"matmul {kind}")]
        peak = max(rates) if row["TFLOP/s"] else bandwidth / 1e9
        row["of peak"] = (row["TFLOP/s"] or row["GB/s"]) / peak
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'case':<24}{'by':<8}{'us':>10}{'GB/s':>9}{'TFLOP/s':>9}{'of peak':>9}{'error':>10}"]
    for r in rows:
        lines.append(
            f"{r['case']:<24}{r['framework']:<8}{r['us']:>10.1f}{r['GB/s']:>9.0f}"
            f"{r['TFLOP/s']:>9.2f}{r['of peak']:>9.2f}{r['error']:>10.1e}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="side of the largest matrices")
    parser.add_argument("--frameworks", nargs="*", default=list(FRAMEWORKS))
    parser.add_argument("--json", help="also write the rows to this file")
    options = parser.parse_args(arguments)
    import funcdl
    from funcdl.errors import DeviceError

    try:
        device = funcdl.devices("gpu")[0]
    except DeviceError as error:
        print(f"benchmarks.gpu measures on an NVIDIA GPU: {error}", file=sys.stderr)
        return 1
    print(f"{device.device_kind}, matrices of {options.size} × {options.size}")
    rows = measure(options.size, options.frameworks)
    print(table(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"device": device.device_kind, "size": options.size, "rows": rows}, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
