"""Floating-point errors are ignored inside of a call, and are what they were outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from funcdl.core import quiet

WAYS = {"chosen": quiet.quietly, "errstate": quiet._with_errstate}
ZERO, ONE, HUGE = (np.array([x], np.float32) for x in (0.0, 1.0, 3e38))
ERRORS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (np.divide, (ONE, ZERO)),
    (np.divide, (ZERO, ZERO)),
    (np.multiply, (HUGE, HUGE)),
    (np.multiply, (ONE / HUGE, ONE / HUGE)),
    (np.log, (ZERO,)),
    (np.sqrt, (-ONE,)),
    (np.float32.__mul__, (HUGE[0], HUGE[0])),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("function", "arguments"), ERRORS)
def test_errors_are_ignored_inside_alone(
    way: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    before = np.geterr()
    with np.errstate(all="raise"):
        quiet_result = WAYS[way](function, *arguments)
        with pytest.raises(FloatingPointError):
            function(*arguments)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(quiet_result, function(*arguments))
    assert np.geterr() == before


@pytest.mark.parametrize("way", WAYS)
def test_the_state_comes_back_after_an_exception(way: str) -> None:
    def fail(x: int, *, y: int) -> None:
        assert np.geterr()["divide"] == "ignore"
        raise KeyError(x + y)

    with np.errstate(divide="raise"):
        with pytest.raises(KeyError, match="3"):
            WAYS[way](fail, 1, y=2)
        assert np.geterr()["divide"] == "raise"


def test_threads_have_states_of_their_own() -> None:
    seen: list[str] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: seen.append(np.geterr()["divide"]))
        thread.start()
        thread.join()

    with np.errstate(divide="raise"):
        quiet.quietly(look)
    assert seen == ["warn"]
