"""The arena, and results in the memory of donated inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compiler.run import interpret, pipeline_of

import funcdl.numpy as fnp
from funcdl import make_jaxpr
from funcdl.compiler.cpu.target import CpuBackend
from funcdl.compiler.memory import ALIGNMENT, Lifetime, plan_arena
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Var
from funcdl.runtime.toolchain import find_compiler

NDArray = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def temporary(nbytes: int, start: int, length: int) -> Lifetime:
    var = Var(ShapedArray((nbytes,), np.dtype(np.uint8)))
    return Lifetime(var, nbytes, start, start + length)


TEMPORARIES = st.lists(
    st.builds(
        temporary,
        st.sampled_from([0, 1, 63, 64, 65, 100, 500, 4096]),
        st.integers(0, 12),
        st.integers(0, 6),
    ),
    max_size=25,
)


@given(TEMPORARIES)
def test_what_is_alive_together_does_not_overlap(items: list[Lifetime]) -> None:
    plan = plan_arena(items)
    for number, a in enumerate(items):
        begin = plan.offsets[a.var]
        assert begin % ALIGNMENT == 0
        assert begin >= 0 and begin + a.nbytes <= plan.nbytes
        for b in items[:number]:
            together = a.start <= b.end and b.start <= a.end
            apart = (
                begin >= plan.offsets[b.var] + b.nbytes or plan.offsets[b.var] >= begin + a.nbytes
            )
            assert apart or not together or 0 in (a.nbytes, b.nbytes)


@given(TEMPORARIES)
def test_the_arena_is_no_larger_than_all_together(items: list[Lifetime]) -> None:
    padded = [-(-max(item.nbytes, 1) // ALIGNMENT) * ALIGNMENT for item in items]
    assert plan_arena(items).nbytes <= sum(padded)
    for at in range(20):
        alive = [p for p, item in zip(padded, items, strict=True) if item.start <= at <= item.end]
        assert plan_arena(items).nbytes >= sum(alive)


def array(*shape: int) -> NDArray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def test_a_chain_needs_the_memory_of_two() -> None:
    def f(x: Any, w: Any) -> Any:
        for _ in range(10):
            x = fnp.tanh(x @ w)
        return x

    args = (array(16, 16), array(16, 16))
    pipeline = pipeline_of(make_jaxpr(f)(*args))
    assert len(pipeline.program.arena.lifetimes) == 9
    assert pipeline.program.arena.nbytes == 2 * args[0].nbytes


def test_results_and_inputs_are_not_in_the_arena() -> None:
    pipeline = pipeline_of(
        make_jaxpr(lambda x, w: fnp.max(x @ w, axis=1))(array(4, 8), array(8, 8))
    )
    (temporary,) = pipeline.program.arena.lifetimes
    assert temporary.var.aval.shape == (4, 8)


S = (8, 8)
X, Y, V = array(*S), array(*S), array(8)
SHIFTED = np.array([1, 2, 3, 4, 5, 6, 7, 0], np.int32)

# A function, its arguments, all donated, and for each result the input whose memory it gets.
DONATIONS: dict[str, tuple[Callable[..., Any], Sequence[NDArray], Sequence[int | None]]] = {
    "elementwise": (lambda x: fnp.exp(x) + x, [X], [0]),
    "the first that fits": (lambda x, y: x + y, [X, Y], [0]),
    "each memory once": (lambda x, y: (s := x * fnp.exp(y), s + 1, s + 2), [X, Y], [0, 1, None]),
    "another dtype": (lambda x: x.astype(np.int32), [X], [None]),
    "another shape": (lambda x: fnp.sin(x).reshape(64), [X], [None]),
    "read later": (lambda x: (x + 1, x @ x), [X], [0, None]),
    "read later by what needs the result": (
        lambda x: (e := fnp.exp(x), e @ x),
        [X],
        [None, None],
    ),
    "read mirrored": (lambda x: x[::-1] + 1, [X], [None]),
    "read transposed": (lambda x: x.T + x, [X], [None]),
    "read shifted, under a mask": (lambda x: fnp.pad(x[:, 1:], ((0, 0), (0, 1))) + x, [X], [None]),
    "read at computed rows": (lambda x, i: x[i] * 2, [X, SHIFTED], [None]),
    "an operand of the dot that gives the result": (lambda x, y: x @ y, [X, Y], [None]),
    "beside the dot that gives the result": (lambda x, y: x - y @ y, [X, Y], [0]),
    "both": (lambda x, y: x - x @ y, [X, Y], [None]),
    "read before and after a reduction": (
        lambda x: fnp.exp(x - fnp.max(x, axis=1, keepdims=True)),
        [X],
        [None],
    ),
    "read after a reduction": (lambda v, x: v - fnp.sum(x, axis=0), [V, X], [0]),
    "a result itself": (lambda x: (x, x + 1), [X], [None]),
    "an update's operand": (lambda x, i: x.at[i].set(1.0), [X, SHIFTED[:3]], [0]),
    "an update's values": (
        lambda x, i: fnp.zeros(S, np.float32).at[i].add(x),
        [X, SHIFTED],
        [None],
    ),
}


@pytest.mark.parametrize("name", DONATIONS)
def test_donations(name: str) -> None:
    f, args, wanted = DONATIONS[name]
    closed = make_jaxpr(f)(*args)
    pipeline = pipeline_of(closed, [True] * len(args))
    program = pipeline.program
    first = program.num_inputs + program.num_consts
    found = [program.donations.get(first + i) for i in range(len(program.out_vars))]
    assert found == list(wanted)
    plain = interpret(pipeline_of(closed), args)
    for got, want in zip(interpret(pipeline, args), plain, strict=True):
        np.testing.assert_array_equal(got, want)


def test_nothing_is_taken_that_was_not_donated() -> None:
    pipeline = pipeline_of(make_jaxpr(lambda x, y: x + y)(X, Y), [False, True])
    assert pipeline.program.donations == {2: 1}


def test_updates_wait_for_those_who_read_the_old_value() -> None:
    def f(w: Any, x: Any) -> Any:
        h = fnp.tanh(x @ w)
        return w - x.T @ h, h @ w.T

    pipeline = pipeline_of(make_jaxpr(f)(X, Y), [True, False])
    assert pipeline.program.donations == {2: 0}
    assert len(interpret(pipeline, [X, Y])) == 2


needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def run_in_c(f: Callable[..., Any], args: Sequence[NDArray], donated: bool) -> list[NDArray]:
    closed = make_jaxpr(f)(*args)
    lowered = CpuBackend().lower(closed, name="donation", donated=[donated] * len(args))
    return list(lowered.compile()(args))


@needs_compiler
def test_donated_memory_is_reused_in_c() -> None:
    # Long sums and sizes that fill no tile, so that a product comes in several blocks.
    args = [array(70, 45), array(45), array(1100, 70), array(1100, 45)]

    def step(w: Any, b: Any, x: Any, g: Any) -> Any:
        return w - 0.1 * (x.T @ g), b - 0.1 * fnp.sum(g, axis=0), x * 2

    plain = run_in_c(step, args, donated=False)
    given = [x.copy() for x in args]
    places = [x.ctypes.data for x in given]
    taken = run_in_c(step, given, donated=True)
    assert [out.ctypes.data for out in taken] == places[:3]
    for found, wanted in zip(taken, plain, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert not {out.ctypes.data for out in plain} & {x.ctypes.data for x in args}


@needs_compiler
def test_donated_memory_that_cannot_be_written_is_left_alone() -> None:
    x = array(5)
    x.flags.writeable = False
    before = x.copy()
    (found,) = run_in_c(lambda x: x + 1, [x], donated=True)
    np.testing.assert_array_equal(found, before + 1)
    np.testing.assert_array_equal(x, before)


@needs_compiler
def test_an_array_that_is_passed_twice_is_not_written_to() -> None:
    x = array(100)
    before = x.copy()
    total, turned = run_in_c(lambda x, y: (x + 1, x * y[::-1]), [x, x], donated=True)
    np.testing.assert_array_equal(total, before + 1)
    np.testing.assert_array_equal(turned, before * before[::-1])
    np.testing.assert_array_equal(x, before)
