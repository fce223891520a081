"""Values, exceptions and interrupts that cross from the thread, and threads that end."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl import data, random


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "funcdl.prefetch"]


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_for(lambda: not ours())


@given(values=st.lists(st.none() | st.integers()), size=st.integers(1, 4))
def test_the_same_values_in_the_same_order(values: list[Any], size: int) -> None:
    found = data.prefetch(values, size)
    assert list(found) == values
    assert list(found) == []


def test_no_more_than_size_values_are_ahead() -> None:
    made = []

    def source() -> Iterator[int]:
        for i in range(10):
            made.append(i)
            yield i

    with data.prefetch(source(), 3) as values:
        wait_for(lambda: len(made) == 3)
        time.sleep(0.02)
        assert len(made) == 3
        assert next(values) == 0
        wait_for(lambda: len(made) == 4)
        assert list(values) == list(range(1, 10))


class Unusual(BaseException):
    pass


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, Unusual])
def test_exceptions_are_raised_in_their_place(kind: type[BaseException]) -> None:
    raised = kind("no third value")

    def source() -> Iterator[int]:
        yield from (1, 2)
        raise raised

    values = data.prefetch(source(), 5)
    assert [next(values), next(values)] == [1, 2]
    with pytest.raises(kind) as caught:
        next(values)
    assert caught.value is raised
    assert "source" in [entry.name for entry in caught.traceback]
    assert list(values) == []


def test_closing_ends_the_thread_and_the_source() -> None:
    ended = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    values = data.prefetch(data.prefetch(source()))
    assert next(values) == 1 and len(ours()) == 2
    values.close()
    values.close()
    assert list(values) == []
    wait_for(lambda: ended)


def test_values_that_nobody_takes_are_freed() -> None:
    made: list[Any] = []

    def source() -> Iterator[Any]:
        while True:
            value = np.zeros(1)
            made.append(weakref.ref(value))
            yield value
            del value

    values = data.prefetch(source(), 2)
    next(values)
    values.close()
    assert made and all(ref() is None for ref in made)


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_made_while_it_closes_is_freed(fails: bool) -> None:
    alive: list[Any] = []
    making, closing = threading.Event(), threading.Event()

    def source() -> Iterator[Any]:
        yield None
        making.set()
        closing.wait()
        wait_for(lambda: values._buffer.stopped)
        value = Unusual() if fails else np.zeros(1)
        alive.append(weakref.ref(value))
        if isinstance(value, Unusual):
            raise value
        yield value

    values = data.prefetch(source())
    next(values)
    making.wait()
    closing.set()
    values.close()
    gc.collect()  # an exception refers to the frame that has it
    assert alive[0]() is None


def test_an_error_keeps_nothing_alive_once_it_is_handled() -> None:
    class Value:
        pass

    value = Value()
    alive = weakref.ref(value)

    def source(value: Any) -> Iterator[Any]:
        yield value
        raise ValueError

    values = data.prefetch(source(value))
    del value
    next(values)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            next(values)
        wait_for(lambda: not ours())
        assert alive() is None
    finally:
        gc.enable()


def test_what_is_no_longer_referred_to_ends() -> None:
    for _ in data.prefetch(iter(int, 1)):  # zeros without end
        break
    gc.collect()
    wait_for(lambda: not ours())


def test_an_interrupt_loses_no_value() -> None:
    go_on = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        go_on.wait()
        yield 2
        yield 3

    values = data.prefetch(source())
    assert next(values) == 1
    main = threading.main_thread().ident
    assert main is not None
    # What a shell starts in the background ignores interrupts.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGINT]).start()
            next(values)
    finally:
        signal.signal(signal.SIGINT, handler)
    go_on.set()
    assert list(values) == [2, 3]


def test_batches_through_a_thread() -> None:
    arrays = (np.arange(24), np.arange(24)[:, None])
    options: dict[str, Any] = {"key": random.key(1), "epoch": 3}
    here = list(data.batches(arrays, 5, **options))
    there = list(data.prefetch(data.batches(arrays, 5, **options)))
    assert [x.tolist() for x, _ in there] == [x.tolist() for x, _ in here]
    assert [y.tolist() for _, y in there] == [y.tolist() for _, y in here]
