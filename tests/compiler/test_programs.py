"""Random programs mean the same before and after every pass, and when they are run."""

from __future__ import annotations

from hypothesis import given, settings
from tests.compiler.bounds import assert_within, evaluate, exactly
from tests.compiler.programs import Case, cases
from tests.compiler.run import interpret, pipeline_of

from funcdl.config import config
from funcdl.core.backend import ReferenceProgram
from funcdl.core.checker import check_closed_jaxpr


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


@settings(max_examples=150)
@given(cases())
def test_passes_keep_the_meaning(case: Case) -> None:
    check_passes(case)
