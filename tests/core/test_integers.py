"""Arguments that must be integers, of any type that Python takes for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core.integers import integer, integers, power_of_two, round_up
from funcdl.errors import ArgumentError, ConcretizationError


def test_what_counts_as_an_integer() -> None:
    for value in (3, np.int8(3), np.array(3), fnp.array(3)):
        assert integer("n", value) == 3 and type(integer("n", value)) is int
    assert integers("s", [3, np.int32(4)]) == integers("s", fnp.array([3, 4])) == (3, 4)
    assert round_up(5, 4) == power_of_two(5) == 8


@pytest.mark.parametrize(
    ("convert", "value", "message"),
    [
        (integer, 1.0, "n must be an integer, got 1.0"),
        (integer, "3", "n must be an integer, got '3'"),
        (integer, None, "n must be an integer, got None"),
        (integer, fnp.ones(2), "n must be an integer, got an array of type f32[2]"),
        (integers, 3, "n must be a sequence of integers, got 3"),
        (integers, (3, None), "n must be a sequence of integers, got (3, None)"),
    ],
)
def test_errors(convert: Callable[[str, Any], Any], value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        convert("n", value)
    assert str(refused.value) == message


def test_traced_values_are_told_as_ever() -> None:
    with pytest.raises(ConcretizationError, match="was asked of a traced array"):
        fd.jit(lambda n: integer("n", n))(3)
    with pytest.raises(ConcretizationError, match="was asked of a traced array"):
        fd.jit(lambda n: integers("n", (n, 2)))(3)
