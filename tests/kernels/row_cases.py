"""The kernels of rows against NumPy, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from funcdl.kernels.triton.library import cross_entropy, norm_gradient
from funcdl.kernels.triton.library.cross_entropy import CrossEntropy
from funcdl.kernels.triton.library.norm_gradient import Norm
from funcdl.kernels.triton.library.template import tiles

Array = np.ndarray[Any, Any]
F32, BF16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)

CASES: dict[str, tuple[Norm | CrossEntropy, int]] = {
    "layer_norm": (Norm(11, 50, F32, programs=4), 64),
    "layer_norm_few_rows": (Norm(3, 33, F32, programs=8), 64),
    "layer_norm_bf16": (Norm(9, 20, BF16, programs=3), 32),
    "rms_norm": (Norm(10, 64, F32, epsilon=1e-2, centred=False, programs=5), 64),
    "one_element": (Norm(4, 1, F32, centred=False, programs=2), 2),
    "cross_entropy_16": (CrossEntropy(7, 53, F32), 16),
    "cross_entropy_32": (CrossEntropy(7, 64, F32), 32),
    "cross_entropy_128": (CrossEntropy(3, 53, F32), 128),
    "cross_entropy_bf16": (CrossEntropy(5, 40, BF16), 16),
    "one_class": (CrossEntropy(2, 1, F32), 1),
}


def run(name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the kernel and what NumPy gives, by the name of the buffer."""
    from funcdl.kernels.triton.interpret import interpret

    problem, side = CASES[name]
    rng = np.random.default_rng(len(name))
    if isinstance(problem, CrossEntropy):
        memory = _logits(problem, rng)
        wanted = _cross_entropy(memory)
        rendered = cross_entropy.kernel(problem, tiles(4, 2, BC=side))
    else:
        memory = _rows(problem, rng)
        wanted = _norm(problem, memory)
        rendered = norm_gradient.kernel(problem, tiles(4, 1, BN=side))
    interpret(rendered, memory)
    for part in ("scale_parts", "shift_parts"):
        if part in memory:
            memory[part] = memory[part].astype(np.float64).sum(0)
    return memory, wanted


def _logits(problem: CrossEntropy, rng: np.random.Generator) -> dict[str, Array]:
    shape = (problem.rows, problem.classes)
    logits = rng.normal(size=shape) * 20
    labels = rng.integers(0, problem.classes, problem.rows)
    if problem.classes > 50:
        logits[0, :20] = -np.inf  # whole blocks without a finite logit
        labels[1] = -1
        labels[0] = 30
    return {
        "logits": logits.astype(problem.dtype),
        "labels": labels.astype(np.int32),
        "cotangent": rng.normal(size=problem.rows).astype(np.float32),
        "loss": np.empty(problem.rows, np.float32),
        "gradient": np.empty(shape, problem.dtype),
    }


def _cross_entropy(memory: dict[str, Array]) -> dict[str, Array]:
    logits, labels = memory["logits"].astype(np.float64), memory["labels"]
    log_total = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    rows = np.arange(len(labels))
    picked = np.where(labels >= 0, logits[rows, labels], np.nan)
    softmax = np.exp(logits - log_total[:, None])
    one = labels[:, None] == np.arange(logits.shape[1])
    return {
        "loss": log_total - picked,
        "gradient": (softmax - one) * memory["cotangent"].astype(np.float64)[:, None],
    }


def _rows(problem: Norm, rng: np.random.Generator) -> dict[str, Array]:
    shape = (problem.rows, problem.size)
    parts = (min(problem.programs, problem.rows), problem.size)
    found = {
        "x": rng.normal(size=shape).astype(problem.dtype) + problem.dtype.type(2),
        "scale": rng.normal(size=problem.size).astype(problem.dtype),
        "cotangent": rng.normal(size=shape).astype(problem.dtype),
        "x_gradient": np.empty(shape, problem.dtype),
        "scale_parts": np.empty(parts, np.float32),
    }
    return found | ({"shift_parts": np.empty(parts, np.float32)} if problem.centred else {})


def _norm(problem: Norm, memory: dict[str, Array]) -> dict[str, Array]:
    x, scale, ct = (memory[name].astype(np.float64) for name in ("x", "scale", "cotangent"))
    if problem.centred:
        x = x - x.mean(1, keepdims=True)
    deviation = np.sqrt((x * x).mean(1, keepdims=True) + problem.epsilon)
    normal, pulled = x / deviation, ct * scale
    gradient = pulled - normal * (pulled * normal).mean(1, keepdims=True)
    if problem.centred:
        gradient -= pulled.mean(1, keepdims=True)
    found = {"x_gradient": gradient / deviation, "scale_parts": (ct * normal).sum(0)}
    return found | ({"shift_parts": ct.sum(0)} if problem.centred else {})


def differences(names: list[str]) -> dict[str, str]:
    """Where a kernel and NumPy disagree, by case; "" where they do not."""
    found = {}
    for name in names:
        left, right = run(name)
        tolerance = 4e-2 if CASES[name][0].dtype == BF16 else 2e-5
        found[name] = ""
        for result, values in right.items():
            try:
                np.testing.assert_allclose(
                    left[result].astype(np.float64), values, rtol=tolerance, atol=tolerance
                )
            except AssertionError as error:
                found[name] += f"{result}: {error}\n"
    return found


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(differences(sys.argv[1:])))
