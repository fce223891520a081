"""The first call at another batch size: ``python -m benchmarks.batch_sizes``.

Training steps of an MLP and of a transformer, called once at each of several batch sizes, one after
the other, in a new process for each framework, with an empty cache on disk. Times are those of
single first calls: repeat the command and take the least. For us, `kernels` are those of the
program, and `compiled` those that no earlier size had.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import transformer
from benchmarks.cases.training import adam
from benchmarks.frameworks import Framework, normal

FRAMEWORKS = ("funcdl", "jax")
SIZES = (32, 48, 33, 1, 128)
WIDTHS = (784, 512, 512, 10)


def mlp(framework: Framework) -> Any:
    """The loss, its parameters, and what makes a batch."""
    fnp, nn = framework.np, framework.nn
    params = {f"w{i}": normal(*WIDTHS[i : i + 2], scale=0.05) for i in range(3)}
    params |= {f"b{i}": np.zeros(WIDTHS[i + 1], np.float32) for i in range(3)}

    def loss(p: Any, x: Any, y: Any) -> Any:
        for i in range(3):
            x = x @ p[f"w{i}"] + p[f"b{i}"]
            x = nn.relu(x) if i < 2 else x
        return -fnp.mean(fnp.take_along_axis(nn.log_softmax(x), y[:, None], axis=-1))

    return loss, params, lambda n: (normal(n, WIDTHS[0]), np.arange(n, dtype=np.int32) % 10)


def gpt(framework: Framework) -> Any:
    """A 2-layer transformer of width 128 on sequences of 64 tokens."""
    sizes = transformer.Sizes(2, 128, 4, vocabulary=512, length=64, batch=1)

    def loss(p: Any, ids: Any) -> Any:
        return transformer.loss(framework.fd, framework.np, framework.nn, sizes, p, ids)

    def batch(n: int) -> Any:
        return (np.concatenate([transformer.tokens(sizes, seed) for seed in range(n)]),)

    return loss, transformer.parameters(sizes), batch


MODELS = {"mlp": mlp, "gpt": gpt}


def measure(name: str, model: str) -> list[dict[str, Any]]:
    """Each size's first call, in seconds, in this process."""
    framework = Framework(name)
    loss, params, batch = MODELS[model](framework)

    def step(p: Any, m: Any, v: Any, t: Any, *batch: Any) -> Any:
        value, g = framework.fd.value_and_grad(loss)(p, *batch)
        return value, *adam(framework, p, m, v, t, g)

    jitted = framework.fd.jit(step)
    zeros = framework.fd.tree.map(np.zeros_like, params)
    rows = []
    for size in SIZES:
        arguments = (params, zeros, zeros, np.float32(0), *batch(size))
        before = _counts(name)
        start = time.perf_counter()
        framework.fd.block_until_ready(jitted(*arguments))
        seconds = time.perf_counter() - start
        rows.append(
            {"size": size, "seconds": seconds, "counts": _difference(before, _counts(name))}
        )
    return rows


def _counts(name: str) -> tuple[int, int]:
    if name != "funcdl":
        return 0, 0
    from funcdl.runtime import kernel_store

    return kernel_store.statistics.wanted, kernel_store.statistics.compiled


def _difference(before: tuple[int, int], after: tuple[int, int]) -> list[int]:
    return [b - a for a, b in zip(before, after, strict=True)]


def _in_own_process(name: str, model: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as cache:
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.batch_sizes", "--measure", name, model],
            env=os.environ | {"FUNCDL_CACHE_DIR": cache},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    return json.loads(result.stdout) if result.returncode == 0 else []


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description="Time first calls at several batch sizes.")
    parser.add_argument("--measure", nargs=2, metavar=("FRAMEWORK", "MODEL"), help="JSON, for one")
    parser.add_argument("--rounds", type=int, default=1, help="processes to take the least of")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    for model in MODELS:
        found: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in FRAMEWORKS}
        for _ in range(arguments.rounds):
            for name in FRAMEWORKS:
                rows = _in_own_process(name, model)
                if rows:
                    found[name].append(rows)
        print(f"{model:<8}{'batch':>6}{'funcdl s':>10}{'kernels':>9}{'compiled':>10}{'jax s':>8}")
        for at, size in enumerate(SIZES):
            least = {n: min((r[at]["seconds"] for r in found[n]), default=0) for n in FRAMEWORKS}
            wanted, compiled = found["funcdl"][0][at]["counts"] if found["funcdl"] else (0, 0)
            peer = f"{least['jax']:8.3f}" if found["jax"] else f"{'-':>8}"
            print(f"{'':<8}{size:>6}{least['funcdl']:>10.3f}{wanted:>9}{compiled:>10}{peer}")


if __name__ == "__main__":
    main()
