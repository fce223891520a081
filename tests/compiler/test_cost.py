"""Costs and memory of whole programs, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import ArgumentError


def shape(*dims: int, dtype: str = "float32") -> fd.ShapeDtypeStruct:
    return fd.ShapeDtypeStruct(dims, np.dtype(dtype))


def scanned(x: Any, w: Any) -> Any:
    return lax.scan(lambda c, _: (fnp.tanh(c @ w), None), x, None, length=6)[0]


# Function, argument shapes, flops, transcendentals, bytes accessed.
HAND_COUNTS: list[tuple[str, Any, list[tuple[int, ...]], int, int, int]] = [
    ("product", lambda x, w: x @ w, [(8, 4), (4, 3)], 2 * 8 * 4 * 3, 0, 4 * (32 + 12 + 24)),
    ("chain", lambda x: fnp.exp(x) * 2 + x, [(10, 10)], 200, 100, 800),
    ("sum", lambda x: x.sum(), [(10,)], 9, 0, 44),
    (
        # Two kernels: a row's maximum, differences, exponentials and their sum in the first.
        "normalised exponentials",
        lambda x: fnp.exp(x - x.max(1, keepdims=True)),
        [(4, 8)],
        4 * 7 + 32,
        32,
        2 * 128,
    ),
    ("a loop of six", scanned, [(2, 3), (3, 3)], 6 * 2 * 2 * 3 * 3, 6 * 6, 6 * 4 * (6 + 9 + 6)),
    (
        "padded convolution",  # of the 3 places, the first and last window have 2 inside
        lambda x, k: lax.conv_general_dilated(
            x, k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        ),
        [(1, 5, 2), (3, 2, 7)],
        2 * (5 * 3 - 2) * 2 * 7,
        0,
        4 * (10 + 42 + 35),
    ),
    ("nothing", lambda x: x, [(5,)], 0, 0, 0),
]


@pytest.mark.parametrize(
    ("fun", "shapes", "flops", "transcendentals", "nbytes"),
    [row[1:] for row in HAND_COUNTS],
    ids=[row[0] for row in HAND_COUNTS],
)
def test_counts_by_hand(
    fun: Any, shapes: list[tuple[int, ...]], flops: int, transcendentals: int, nbytes: int
) -> None:
    lowered = fd.jit(fun).lower(*(shape(*dims) for dims in shapes))
    found = lowered.cost_analysis()
    kernels = found.pop("kernels")
    assert found == {
        "flops": flops,
        "transcendentals": transcendentals,
        "bytes accessed": nbytes,
    }
    for name, total in found.items():
        assert sum(kernel["calls"] * kernel[name] for kernel in kernels) == total


def test_kernels_are_listed_with_calls_and_lines() -> None:
    lowered = fd.jit(scanned).lower(shape(2, 3), shape(3, 3))
    (kernel,) = lowered.compile().cost_analysis()["kernels"]
    assert kernel["calls"] == 6
    assert kernel["flops"] == 36
    assert kernel["name"] in lowered.as_text("schedule")
    assert "fnp.tanh(c @ w)" in kernel["source"].text


def test_the_line_is_that_of_the_main_equation() -> None:
    def f(x: Any, w: Any) -> Any:
        product = x @ w
        return fnp.maximum(product + 1, 0)

    (kernel,) = fd.jit(f).lower(shape(4, 4), shape(4, 4)).cost_analysis()["kernels"]
    assert kernel["source"].text == "product = x @ w"


def test_a_while_loop_counts_as_one_step_and_a_branch_as_the_costliest() -> None:
    def loop(x: Any) -> Any:
        return lax.while_loop(lambda v: v[0] < 9, lambda v: v * 2, x)

    def branch(p: Any, x: Any) -> Any:
        return lax.cond(p, lambda v: fnp.exp(v), lambda v: v * 2 + 1, x)

    assert fd.jit(loop).lower(shape(5)).cost_analysis()["flops"] == 1 + 5
    found = fd.jit(branch).lower(shape(dtype="bool"), shape(5)).cost_analysis()
    assert (found["flops"], found["transcendentals"]) == (10, 5)
    assert len(found["kernels"]) >= 2


def test_host_steps_count_their_bytes() -> None:
    def f(x: Any) -> Any:
        return fd.pure_callback(np.flip, shape(100), x * 2) + 1

    found = fd.jit(f).lower(shape(100)).cost_analysis()
    (step,) = [k for k in found["kernels"] if k["name"] == "callback"]
    assert (found["flops"], found["bytes accessed"]) == (200, 800 * 3)
    assert step["bytes accessed"] == 800
    assert step["flops"] == 0


def test_the_reference_back_end_counts_nothing() -> None:
    with fd.config.override(backend="reference"):
        lowered = fd.jit(lambda x: x + 1).lower(shape(3))
        with pytest.raises(ArgumentError, match="backend = 'cpu'"):
            lowered.cost_analysis()
        memory = lowered.compile().memory_analysis()
    assert (memory.argument_size_in_bytes, memory.output_size_in_bytes) == (12, 12)


def test_memory_of_a_program() -> None:
    table = fnp.arange(1000.0)

    def f(x: Any, w: Any) -> Any:
        y = x @ w
        return w - 0.1 * (x.T @ fnp.exp(y - y.max(1, keepdims=True))), table[:4]

    lowered = fd.jit(f, donate_argnums=1).lower(shape(8, 16), shape(16, 4))
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes == 4 * (8 * 16 + 16 * 4)
    assert memory.constant_size_in_bytes == 4000
    assert memory.output_size_in_bytes == 4 * (16 * 4 + 4)
    assert memory.alias_size_in_bytes == 4 * 16 * 4
    arena = int(lowered.as_text("memory").partition("arena  ")[2].split()[0])
    assert memory.temp_size_in_bytes == arena > 0
    assert memory.peak_memory_in_bytes == 4 * (8 * 16 + 16 * 4 + 1000 + 4) + arena
    if fd.config.backend != "reference":
        assert memory.generated_code_size_in_bytes > 1000
    for stage in ("jaxpr", "schedule", "memory", "c"):
        assert compiled.as_text(stage) == lowered.as_text(stage)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["product", "chain", "sum"])
def test_counts_are_those_of_jax(name: str) -> None:
    import jax

    _, fun, shapes, *_ = next(row for row in HAND_COUNTS if row[0] == name)
    theirs = {"product": fun, "chain": lambda x: jax.numpy.exp(x) * 2 + x, "sum": fun}[name]
    arguments = [jax.ShapeDtypeStruct(dims, np.float32) for dims in shapes]
    wanted = jax.jit(theirs).lower(*arguments).compile().cost_analysis()
    found = fd.jit(fun).lower(*(shape(*dims) for dims in shapes)).cost_analysis()
    for key in ("flops", "transcendentals"):
        assert found[key] == wanted.get(key, 0.0), key
    initial = 4 if name == "sum" else 0  # which XLA reads from memory
    assert found["bytes accessed"] == wanted["bytes accessed"] - initial
