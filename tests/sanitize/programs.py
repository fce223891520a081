"""Random programs, for a process under a sanitizer: collected only where a command names it."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from tests.compiler.programs import LARGE, Case, cases
from tests.compiler.test_programs import check_compiled

_FEW = settings(max_examples=150, derandomize=True, phases=[Phase.explicit, Phase.generate])


@_FEW
@given(cases())
def test_small_arrays(case: Case) -> None:
    check_compiled(case)


@_FEW
@given(cases(LARGE))
def test_large_arrays(case: Case) -> None:
    check_compiled(case)
