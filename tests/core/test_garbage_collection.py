"""What pausing the collector does to objects and to the collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from funcdl.core.garbage_collection import paused


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    assert gc.isenabled()
    gc.unfreeze()  # Python 3.12 starts with some objects that are frozen
    yield
    gc.unfreeze()
    gc.enable()


def is_in(generation: int, x: object) -> bool:
    return any(y is x for y in gc.get_objects(generation))


def test_what_is_made_inside_is_old_afterwards() -> None:
    with paused():
        assert not gc.isenabled()
        made: list[Any] = [[]]
        assert is_in(0, made)
    assert gc.isenabled()
    assert is_in(2, made)
    assert gc.get_freeze_count() == 0


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with paused():
        made: list[Any] = [[]]
    assert not gc.isenabled()
    assert is_in(0, made)


def test_what_a_user_froze_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with paused():
        pass
    assert gc.get_freeze_count() == frozen > 0
    assert gc.isenabled()


def test_an_error_inside_resumes_the_collector() -> None:
    with pytest.raises(ZeroDivisionError), paused():
        raise ZeroDivisionError
    assert gc.isenabled()
