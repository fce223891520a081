"""What a call costs beside its work: cached jitted functions and eager operations on tiny arrays.

``python -m benchmarks.dispatch`` prints microseconds a call: the least of many short rounds, since
whatever else the machine does only adds to a round. Results are checked first. JAX stands beside,
where it is installed, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

ROUNDS = 200
ROUND_SECONDS = 2e-3

Case = tuple[Callable[[], Any], Callable[[], Any]]
"""A call, and what it should return, from NumPy."""


def cases(jit: Callable[..., Any], numpy: Any) -> dict[str, Case]:
    """Calls by name, of a framework with these NumPy functions."""
    values = [np.arange(10, dtype=np.float32) + i for i in range(100)]
    arrays = [numpy.asarray(value) for value in values]
    a, b, c = arrays[:3]
    one = jit(lambda x: x + 1)
    three = jit(lambda x, y, z: x * y + z)
    many = jit(lambda xs: [x + 1 for x in xs])
    nested = jit(lambda tree, scale: {"p": [x * scale for x in tree["p"]], "n": tree["n"] + 1})
    tree = {"p": [a, b, c], "n": c}
    return {
        "jit, 1 array": (lambda: one(a), lambda: values[0] + 1),
        "jit, 3 arrays": (lambda: three(a, b, c), lambda: values[0] * values[1] + values[2]),
        "jit, 100 arrays": (lambda: many(arrays), lambda: [value + 1 for value in values]),
        "jit, dict and float": (
            lambda: nested(tree, 2.0)["p"],
            lambda: [value * np.float32(2) for value in values[:3]],
        ),
        "eager a + b": (lambda: a + b, lambda: values[0] + values[1]),
        "eager a * 2.0": (lambda: a * 2.0, lambda: values[0] * np.float32(2)),
        "eager a < b": (lambda: a < b, lambda: values[0] < values[1]),
        "eager -a": (lambda: -a, lambda: -values[0]),
        "eager 1 - a": (lambda: 1 - a, lambda: 1 - values[0]),
        "eager maximum(a, b)": (
            lambda: numpy.maximum(a, b),
            lambda: np.maximum(values[0], values[1]),
        ),
        "eager a // b": (lambda: a // b, lambda: values[0] // values[1]),
        "eager tanh(a)": (lambda: numpy.tanh(a), lambda: np.tanh(values[0])),
        "eager tanh(a * b) + c": (
            lambda: numpy.tanh(a * b) + c,
            lambda: np.tanh(values[0] * values[1]) + values[2],
        ),
    }


def check(name: str, case: Case) -> None:
    """Raise if the call returns something else than NumPy."""
    call, expected = case
    for _ in range(3):  # a cached call may go another way than the first
        for found, wanted in zip(_as_list(call()), _as_list(expected()), strict=True):
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-6, err_msg=name)


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]


def least_microseconds(call: Callable[[], Any]) -> float:
    """The least time a call takes, over many rounds of a few milliseconds."""
    count = 1
    while _seconds(call, count) < ROUND_SECONDS:
        count *= 2
    return min(_seconds(call, count) for _ in range(ROUNDS)) / count * 1e6


def _seconds(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - begin


def measure(framework: str) -> dict[str, float]:
    """Microseconds of every case."""
    if framework == "jax":
        import jax

        found = cases(jax.jit, jax.numpy)
    else:
        import funcdl

        funcdl.config.dispatch = "python" if framework == "funcdl, twin" else "auto"
        found = cases(funcdl.jit, funcdl.numpy)
    for name, case in found.items():
        check(name, case)
    return {name: least_microseconds(call) for name, (call, _) in found.items()}


def main(arguments: list[str]) -> None:
    """Print a table, or with an argument one framework's figures."""
    if arguments:
        print(json.dumps(measure(arguments[0])))
        return
    frameworks = ["funcdl", "funcdl, twin", *(["jax"] if find_spec("jax") else [])]
    columns = []
    for framework in frameworks:
        command = [sys.executable, "-m", "benchmarks.dispatch", framework]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        columns.append(json.loads(output.splitlines()[-1]))
    print(f"{'microseconds a call':22}" + "".join(f"{name:>14}" for name in frameworks))
    for name in columns[0]:
        print(f"{name:22}" + "".join(f"{column[name]:14.2f}" for column in columns))


if __name__ == "__main__":
    main(sys.argv[1:])
