"""Random programs mean the same before and after every pass, and when they are run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from tests.compiler.bounds import assert_within, evaluate, exactly
from tests.compiler.programs import LARGE, Case, cases
from tests.compiler.run import interpret, pipeline_of

import funcdl as fd
from funcdl.compiler.cpu.target import CpuBackend
from funcdl.config import config
from funcdl.core.backend import ReferenceProgram
from funcdl.core.checker import check_closed_jaxpr
from funcdl.core.jaxpr import eval_jaxpr
from funcdl.runtime.toolchain import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def check_passes(case: Case) -> None:
    check_closed_jaxpr(case.closed)
    wanted = evaluate(case.closed, case.args)
    with config.override(backend="reference"):
        reference = ReferenceProgram(case.closed)(case.args)
    for number, (found, want) in enumerate(zip(reference, wanted, strict=True)):
        assert_within(found, exactly(want.value), f"reference, output {number}")
    pipeline = pipeline_of(case.closed, case.donated)
    check_closed_jaxpr(pipeline.simplified, "simplify")
    simplified = ReferenceProgram(pipeline.simplified)(case.args)
    interpreted = interpret(pipeline, case.args)
    for number, want in enumerate(wanted):
        assert_within(simplified[number], want, f"simplified, output {number}")
        assert_within(interpreted[number], want, f"interpreted, output {number}")


@pytest.mark.part_of("test_passes_keep_the_meaning_of_many")
@settings(max_examples=150)
@given(cases())
def test_passes_keep_the_meaning(case: Case) -> None:
    check_passes(case)


def check_compiled(case: Case) -> None:
    wanted = evaluate(case.closed, case.args)
    lowered = CpuBackend().lower(case.closed, name="program", donated=case.donated)
    args = [np.array(x) for x in case.args]
    results = lowered.compile()(args)
    for number, want in enumerate(wanted):
        assert_within(results[number], want, f"compiled, output {number}")
    for x, before, donated in zip(args, case.args, case.donated, strict=True):
        assert donated or x.tobytes() == before.tobytes(), "an input that was not given was written"


@pytest.mark.part_of("test_many_compiled_programs_mean_the_same")
@needs_compiler
@settings(max_examples=60, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(cases())
def test_compiled_programs_mean_the_same(case: Case) -> None:
    check_compiled(case)


def batched(case: Case, size: int) -> Case:
    """The program on a batch of operands, of which the first are those of the case."""

    def program(*args: Any) -> Any:
        return eval_jaxpr(case.closed.jaxpr, case.closed.consts, args)

    args = [np.stack([np.roll(x, i).reshape(x.shape) for i in range(size)]) for x in case.args]
    closed = fd.make_jaxpr(fd.vmap(program, axis_size=size))(*args)
    return Case(closed, args, case.donated)


def check_batch_sizes(case: Case) -> None:
    """Programs for two sizes share kernels, and each is right; larger, smaller and odd."""
    for size in (4, 7, 2):
        check_compiled(batched(case, size))


@pytest.mark.part_of("test_many_batch_sizes_mean_the_same")
@needs_compiler
@settings(max_examples=15, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(cases())
def test_batch_sizes_mean_the_same(case: Case) -> None:
    check_batch_sizes(case)


# The same examples in each run of continuous integration: more of them are for the exhaustive hunts
# below.
@pytest.mark.slow
@needs_compiler
@settings(max_examples=80)
@given(cases())
def test_many_batch_sizes_mean_the_same(case: Case) -> None:
    check_batch_sizes(case)


@pytest.mark.slow
@needs_compiler
@settings(max_examples=250)
@given(cases())
def test_many_compiled_programs_mean_the_same(case: Case) -> None:
    check_compiled(case)


@pytest.mark.slow
@needs_compiler
@settings(max_examples=160)
@given(cases(LARGE))
def test_compiled_programs_on_large_arrays_mean_the_same(case: Case) -> None:
    check_compiled(case)


@pytest.mark.slow
@settings(max_examples=1000)
@given(cases())
def test_passes_keep_the_meaning_of_many(case: Case) -> None:
    check_passes(case)


# The hunt for what is rare is not for every run of continuous integration, which has the same
# examples each time.
@pytest.mark.exhaustive
@pytest.mark.slow
@settings(max_examples=10000)
@given(cases())
def test_passes_keep_the_meaning_of_very_many(case: Case) -> None:
    check_passes(case)


@pytest.mark.exhaustive
@pytest.mark.slow
@needs_compiler
@settings(max_examples=2000)
@given(cases())
def test_very_many_compiled_programs_mean_the_same(case: Case) -> None:
    check_compiled(case)


@pytest.mark.exhaustive
@pytest.mark.slow
@needs_compiler
@settings(max_examples=1000)
@given(cases(LARGE))
def test_very_many_programs_on_large_arrays_mean_the_same(case: Case) -> None:
    check_compiled(case)


@pytest.mark.exhaustive
@pytest.mark.slow
@needs_compiler
@settings(max_examples=600)
@given(cases())
def test_very_many_batch_sizes_mean_the_same(case: Case) -> None:
    check_batch_sizes(case)
