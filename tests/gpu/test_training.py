"""Training of whole models on a GPU, beside the CPU: small ones of those that are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from benchmarks.frameworks import Framework
from benchmarks.gpu_models import models

import funcdl as fd

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning"),
]

MODELS = {model.name: model for model in models(False)}
# The small ResNet normalises over two examples: some gradients are little but rounding, which Adam
# makes as large as others. In float64 an error of one bit moves its losses by 1e-3 in 50 steps.
CHAOTIC = "ResNet-9 step, 32 × 32"
CASES = [(name, "float64") for name in MODELS]
CASES += [(name, "float32") for name in MODELS if name != CHAOTIC]


def losses(name: str, dtype: str, steps: int, device: str) -> list[float]:
    """The losses of the first steps."""

    def cast(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x.astype(dtype) if x.dtype.kind == "f" else x

    model = MODELS[name]
    step = fd.jit(model.step(Framework("funcdl")), donate_argnums=(0, 1, 2, 3))
    p = fd.tree.map(cast, model.parameters())
    zeros = fd.tree.map(np.zeros_like, p)
    state: list[Any] = [fd.device_put(x, device) for x in (p, zeros, zeros, np.zeros((), dtype))]
    batch = fd.device_put([cast(x) for x in model.batch()], device)
    found = []
    for _ in range(steps):
        value, *state = step(*state, *batch)
        found.append(float(value))
    return found


def check_losses(name: str, dtype: str, steps: int) -> None:
    """Training goes the same way on the GPU and on the CPU."""
    with fd.config.override(x64="on" if dtype == "float64" else fd.config.x64):
        wanted, found = (losses(name, dtype, steps, device) for device in ("cpu", "gpu"))
    relative = 1e-6 if dtype == "float64" else 5e-2
    np.testing.assert_allclose(found, wanted, relative, 1e-2 if name == CHAOTIC else 1e-9)
    assert found[-1] < found[0]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_fifty_steps_are_as_on_the_cpu(name: str, dtype: str) -> None:
    check_losses(name, dtype, 50)
