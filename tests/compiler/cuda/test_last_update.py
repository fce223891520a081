"""Updates that overwrite on a GPU: the last one wins, whatever order programs run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)


def windows(x: Any) -> Any:
    """Windows that overlap, and that come before the dimension of updates."""
    numbers = lax.ScatterDimensionNumbers((0,), (), (0,))
    updates = fnp.arange(12.0).reshape(3, 4)
    places = fnp.array([[0], [2], [1], [9]])
    return lax.scatter(x[:, 0], places, updates, numbers, mode="clip")


def in_a_loop(x: Any) -> Any:
    def step(carry: Any, i: Any) -> Any:
        return carry.at[fnp.array([0, 0, 2]) + i].set(carry[:3] + 1), None

    return lax.scan(step, x, fnp.arange(2))[0]


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "rows": lambda x: x.at[fnp.array([1, 1, 3])].set(x[:3] * 2),
    "columns": lambda x: x.at[:, fnp.array([1, 4, 1])].set(x[:, :3] * 2),
    "elements": lambda x: x.at[fnp.arange(5), fnp.argmax(x, 1)].set(0.0),
    "computed row": lambda x: x.at[fnp.argmax(x[:, 0])].set(1.0),
    "outside": lambda x: x.at[fnp.array([1, 9, -1])].set(3.0),
    "bools": lambda x: (x > 0).at[fnp.array([1, 1])].set(x[:2] > 1),
    "halves": lambda x: x.astype(fnp.bfloat16).at[fnp.array([1, 1])].set(x[:2].astype("bfloat16")),
    "windows": windows,
    "loop": in_a_loop,
    "map": fd.vmap(lambda row: row.at[fnp.array([2, 2])].set(row[:2] * 3)),
    "gradient": fd.grad(lambda x: fnp.sum(x.at[fnp.array([1, 1, 3])].set(x[:3] * 2) ** 2)),
}


def difference(name: str, gpu: StubGpu) -> str:
    """What differs from the reference; "" if nothing."""
    with fd.config.override(backend="reference"):
        wanted = np.asarray(fd.jit(PROGRAMS[name])(X))
    found = fd.jit(PROGRAMS[name])(fd.device_put(X, "gpu"))
    assert found.platform == "gpu" and found.dtype == wanted.dtype
    return "" if np.array_equal(np.asarray(found), wanted) else f"{found} for {wanted}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_mean(name: str) -> None:
    """Without a kernel on the host, of which a warning would tell, and be an error here."""
    with installed(StubGpu()) as gpu:
        assert difference(name, gpu) == ""


INTERPRETED = """
import json
from tests.compiler.cuda.test_last_update import PROGRAMS, difference
from tests.runtime.cuda.environment import StubGpu, installed
from funcdl.kernels.triton.interpret import interpret
found = {}
for name in PROGRAMS:
    with installed(StubGpu(run=interpret)) as gpu:
        found[name] = difference(name, gpu)
print(json.dumps(found))
"""


@pytest.mark.triton
def test_programs_in_tritons_interpreter() -> None:
    assert answer("-c", INTERPRETED, interpret=True) == dict.fromkeys(PROGRAMS, "")


def test_no_updates_are_no_work() -> None:
    with installed(StubGpu()):
        x = fd.device_put(X, "gpu")
        found = fd.jit(lambda x: x.at[fnp.zeros(0, fnp.int32)].set(x[:0]))(x)
        np.testing.assert_array_equal(np.asarray(found), X)
