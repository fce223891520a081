"""A new batch size compiles the kernels whose schedule it changes, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.batch_models import MODELS

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.pipeline import Pipeline, native_segments
from funcdl.kernels.cpu_c.program.native import standalone_functions
from funcdl.kir.printer import format_schedule
from funcdl.kir.program import all_kernels
from funcdl.runtime import kernel_store, toolchain
from funcdl.runtime.toolchain import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
SIZES = (32, 48, 33, 7, 200)


@pytest.fixture
def empty_cache(tmp_path: Path) -> Iterator[None]:
    with fd.config.override(cache_dir=str(tmp_path)):
        yield


def functions(fun: Any, *args: Any) -> dict[str, tuple[str, str]]:
    """The text of each kernel's function, and its schedule, by name."""
    closed = fd.make_jaxpr(fun)(*args)
    pipeline = Pipeline(
        closed,
        name="step",
        donated=[False] * len(closed.in_avals),
        scheduler=schedule_cpu,
        renderer=("c", lambda program: ""),
    )
    found = {}
    for segment in native_segments(pipeline.program):
        plans = {kernel.name: format_schedule(plan) for kernel, plan in all_kernels(segment)}
        for name, function in standalone_functions(segment).items():
            found[name] = function.text, plans[name]
    return found


@cache
def step_functions(name: str, size: int) -> dict[str, tuple[str, str]]:
    model = MODELS[name]
    return functions(model.step, *model.arguments(size))


def new_at(name: str, size: int) -> dict[str, str]:
    """The kernels that no batch of 32 has, and their schedules."""
    known = {text for text, _ in step_functions(name, 32).values()}
    return {n: plan for n, (text, plan) in step_functions(name, size).items() if text not in known}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", SIZES[1:])
def test_kernels_of_one_schedule_are_shared(name: str, size: int) -> None:
    before, now = step_functions(name, 32), step_functions(name, size)
    assert before.keys() == now.keys()
    for kernel, plan in new_at(name, size).items():
        assert plan != before[kernel][1], f"{kernel} has another text for no reason\n{plan}"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", SIZES[1:])
def test_most_kernels_are_shared(name: str, size: int) -> None:
    """Of 15, 4 and 39 kernels; see the tests below for the reasons why some are new."""
    near = {"mlp": 2, "norms": 1, "transformer": 3}
    assert len(new_at(name, size)) <= (near[name] if size in (48, 33) else 24)


def test_reason_another_number_of_tiles_for_threads() -> None:
    def product(rows: int) -> str:
        found = functions(fnp.matmul, fnp.zeros((rows, 64)), fnp.zeros((64, 64)))
        ((text, _),) = found.values()
        return text

    assert product(16) == product(24)  # one thread
    assert product(16) != product(512)  # several
    assert product(512) == product(600)


def test_reason_threads_are_worth_it() -> None:
    def softmax(rows: int) -> str:
        found = functions(lambda x: fd.nn.softmax(x, axis=-1), fnp.zeros((rows, 50)))
        return next(iter(found.values()))[0]

    few, some, many = softmax(4), softmax(200), softmax(3000)
    assert few == softmax(15) != some == softmax(1000) != many == softmax(100_000)
    assert "omp parallel" in softmax(200)


def test_reason_a_sum_long_enough_for_blocks() -> None:
    def total(rows: int) -> str:
        found = functions(lambda x: x.sum(axis=0), fnp.zeros((rows, 10)))
        return next(iter(found.values()))[0]

    assert total(8) == total(256) != total(260) == total(3000)


def test_reason_rows_are_taken_in_by_fours() -> None:
    def total(rows: int) -> str:
        found = functions(lambda x: x.sum(axis=0), fnp.zeros((rows, 10)))
        return next(iter(found.values()))[0]

    assert total(7) == total(9) != total(8) == total(12)


def test_reason_a_batch_of_one() -> None:
    assert new_at("norms", 1)


def test_reason_an_accumulation() -> None:
    found = [functions(lambda x: fnp.cumsum(x, axis=1), fnp.zeros((n, 9))) for n in (4, 5)]
    assert {text for text, _ in found[0].values()}.isdisjoint(text for text, _ in found[1].values())


def test_loop_bodies_are_shared() -> None:
    """A recurrent net over time, for other batch sizes and lengths."""

    def net(w: Any, h: Any, x: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = fnp.tanh(h @ w + x)
            return h, h.sum(axis=-1)

        return lax.scan(step, h, x)

    w = fnp.zeros((24, 24))
    texts = [
        {text for text, _ in functions(net, w, fnp.zeros((b, 24)), fnp.zeros((t, b, 24))).values()}
        for b, t in ((4, 6), (5, 6), (5, 9))
    ]
    assert texts[0] == texts[1] == texts[2]


@needs_compiler
@pytest.mark.usefixtures("empty_cache")
def test_a_known_kernel_runs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []
    capture = toolchain._capture

    def count(command: Any, folder: Any) -> Any:
        commands.append(command)
        return capture(command, folder)

    monkeypatch.setattr(toolchain, "_capture", count)
    model = MODELS["norms"]
    step = fd.jit(model.step)
    step(*model.arguments(32))
    assert len(commands) >= 1
    commands.clear()
    before = kernel_store.statistics.compiled
    for size in (48, 36, 28, 32):
        step(*model.arguments(size))
    assert (commands, kernel_store.statistics.compiled) == ([], before)


@needs_compiler
@pytest.mark.parametrize("name", MODELS)
def test_every_size_computes_its_own(name: str) -> None:
    model = MODELS[name]
    step = fd.jit(model.step)
    for size in (32, 48, 33, 1, 3):
        arguments = model.arguments(size)
        found = step(*arguments)
        with fd.config.override(backend="reference"):
            wanted = fd.jit(model.step)(*arguments)
        # An update is the gradient's sign at first; where it is nearly 0, rounding decides.
        for a, b in zip(fd.tree.leaves(found[1:]), fd.tree.leaves(wanted[1:]), strict=True):
            scale = np.abs(np.asarray(b)).max(initial=1e-6)
            np.testing.assert_allclose(a, b, 2e-3, 2e-4 * scale, err_msg=f"{name}, {size}")
