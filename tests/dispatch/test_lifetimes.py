"""Nothing leaks, and nothing is freed while it is used: counts, threads, forks, cleared caches."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import tracemalloc
import warnings
import weakref
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.runtime import cpu_memory

pytestmark = pytest.mark.usefixtures("short_search")

Pair = namedtuple("Pair", "a b")


def growth(call: Callable[[], Any], repeats: int = 300) -> int:
    """Bytes that many calls leave behind."""
    for _ in range(5):
        call()
    gc.collect()
    tracemalloc.start()
    try:
        call()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(repeats):
            call()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def assert_counts_stay(call: Callable[[], Any], watched: Sequence[Any]) -> None:
    """Many calls leave the counts of references to some objects as they are.

    What other tests left may go meanwhile, in one round; a leak would add 300 in each.
    """
    call()
    changes = []
    for _ in range(3):
        gc.collect()
        before = [sys.getrefcount(each) for each in watched]
        for _ in range(300):
            call()
        gc.collect()
        after = [sys.getrefcount(each) for each in watched]
        changes.append([b - a for a, b in zip(before, after, strict=True)])
    assert all(min(map(abs, rounds)) < 50 for rounds in zip(*changes, strict=True)), changes


def tree() -> dict[str, Any]:
    return {"a": [fnp.ones(3), (fnp.zeros((2, 2)), None)], "b": Pair(fnp.ones(2000), 2.0)}


def swapped(t: Any) -> Any:
    return {"z": t["a"], "y": Pair(t["b"].a * 2, [t["b"].b * 2, None])}


TREE = tree()
X = fnp.ones(4)
LEAKS: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[[], Any]]] = {
    "tree": (swapped, {}, lambda: (TREE,)),
    "donated": (lambda t: fd.tree.map(lambda x: x * 2, t), {"donate_argnums": 0},
                lambda: (tree(),)),
    "static": (lambda x, n, s: x * n, {"static_argnums": (1, 2)}, lambda: (X, 2, "mode" * 3)),
    "unsorted": (lambda d: d["a"] + d["b"], {}, lambda: ({"b": X, "a": 1},)),
    "host": (lambda x: fnp.fft.fft(x).real, {}, lambda: (X,)),
    "many": (lambda *xs: xs[::-1], {}, lambda: tuple(fnp.ones(1) for _ in range(200))),
    "NumPy scalar": (lambda x, y: x * y, {}, lambda: (X, np.float32(2))),
    "transposed": (lambda x, y: x * y, {}, lambda: (X, np.ones((4, 2), np.float32).T)),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_calls_leave_nothing_behind(name: str) -> None:
    function, options, arguments = LEAKS[name]
    jitted = fd.jit(function, **options)
    assert growth(lambda: jitted(*arguments())) < 3000  # of 300 calls


def test_what_is_declined_leaves_nothing_behind() -> None:
    jitted = fd.jit(lambda x: x + 1)
    jitted(X)
    deleted = fnp.ones(4)
    deleted.delete()
    declined = [deleted, [X, "text"], {1: X, "a": X}, fnp.ones(5), [[X] * 300, {"a": "text"}]]

    def call() -> None:
        for x in declined:
            assert jitted._table.call((x,), {}) is NotImplemented
            assert jitted._table.call((), {"x": x}) is NotImplemented

    assert growth(call) < 3000


def test_counts_of_references() -> None:
    jitted = fd.jit(lambda tree, scale: {"out": tree["x"] * scale, "same": tree["y"]})
    x, y = fnp.ones(3), fnp.ones(3)
    containers = {"x": x, "y": y}
    key = next(iter(containers))
    watched = [x, y, x.value, y.value, x.aval, containers, None, True, False, key]
    jitted(containers, 2.0), jitted(containers, 2.0)
    before = [sys.getrefcount(each) for each in watched]
    for _ in range(100):
        jitted(containers, 2.0)
    after = [sys.getrefcount(each) for each in watched]
    assert jitted._table.hits == 101
    # Other tests' garbage may go meanwhile; a leak would add 100.
    assert all(b - a < 50 for a, b in zip(before, after, strict=True)), (before, after)
    array = jitted(containers, 2.0).pop("out")
    counts = sys.getrefcount(array), sys.getrefcount(array.value)
    assert counts == (2, 2)


def test_memory_of_large_results_is_bounded() -> None:
    jitted = fd.jit(lambda x: x + 1)
    x = fnp.zeros(1 << 20)
    jitted(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        x = jitted(x)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10, f"{grown} KiB for 400 MiB of results"
    assert x[0] == 100


class Model:
    """Static, and refers back to what was jitted with it."""

    def __init__(self) -> None:
        self.step = fd.jit(self.compute, static_argnums=0)

    def compute(self, owner: Model, x: Any) -> Any:
        return x * 2

    def __call__(self, x: Any) -> Any:
        return self.step(self, x)


def test_cycles_are_collected() -> None:
    model = Model()
    for _ in range(3):
        model(X)
    assert model.step._table.hits == 2
    gone = weakref.ref(model)
    fd.clear_caches()
    del model
    gc.collect()
    assert gone() is None


def test_clearing_forgets_programs() -> None:
    jitted = fd.jit(lambda x: x * 3)
    for clear in (jitted.clear_cache, fd.clear_caches):
        jitted(X), jitted(X)
        assert len(jitted._table) == 1
        clear()
        assert len(jitted._table) == 0
        assert jitted(X).tolist() == [3, 3, 3, 3]


def run_threads(count: int, work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_several_threads_at_once() -> None:
    jitted = fd.jit(lambda x, n: (x * 2 + n, x.sum()))
    inputs = [fnp.full((50 + 1000 * i,), float(i)) for i in range(4)]
    wanted = [jitted(x, i) for i, x in enumerate(inputs)]

    def work(number: int) -> None:
        for k in range(200):
            i = (number + k) % 4
            first, second = jitted(inputs[i], i)
            assert np.array_equal(first.value, wanted[i][0].value)
            assert second == wanted[i][1]

    run_threads(4, work)
    assert jitted._table.hits >= 800


def test_clearing_while_others_call() -> None:
    jitted = fd.jit(lambda t: {"s": fd.tree.map(lambda x: x + 1, t)})
    jitted((X, [X]))

    def work(number: int) -> None:
        for _ in range(30 if number == 0 else 200):
            if number == 0:
                jitted.clear_cache()
            else:
                out = jitted((fnp.ones(3), [fnp.zeros(2000)]))
                assert out["s"][0].tolist() == [2, 2, 2]
                assert out["s"][1][0][1999] == 1

    run_threads(3, work)


def test_containers_that_others_change() -> None:
    """The arguments of a running call may be dropped by their owner."""
    jitted = fd.jit(lambda xs: [x * 2 for x in xs])
    xs = [fnp.ones(5000) for _ in range(20)]
    jitted(xs)

    def work(number: int) -> None:
        for k in range(200):
            if number == 0:
                xs[k % 20] = fnp.full((5000,), float(k))
            else:
                for out in jitted(xs):
                    assert out[0] == out[4999]

    run_threads(3, work)


def test_a_forked_child_calls() -> None:
    jitted = fd.jit(lambda x: (x * 2, x.sum()))
    x = fnp.ones(40_000)
    jitted(x), jitted(x)
    with warnings.catch_warnings():
        # Python 3.12, and JAX where it is loaded, warn of threads that a child does not have.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs ends
        hits = jitted._table.hits
        right = all(jitted(x)[1] == 40_000 for _ in range(20))
        os._exit(0 if right and jitted._table.hits == hits + 20 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert jitted(x)[1] == 40_000


def test_allocation_failure_is_an_error() -> None:
    jitted = fd.jit(lambda x: x + 1)
    x = fnp.ones(100_000)
    jitted(x), jitted(x)

    class Empty:
        """A pool without memory."""

        def empty_array(self, shape: Any, dtype: Any) -> Any:
            raise MemoryError("none left")

    program = _program_with_pool(jitted, Empty())
    jitted._table.clear()
    assert jitted._table.learn((x,), {}, program)
    for _ in range(3):
        with pytest.raises(MemoryError, match="none left"):
            jitted(x)
    assert sys.getrefcount(x) == 2


def _program_with_pool(jitted: Any, pool: Any) -> Any:
    from dataclasses import replace

    from funcdl.core.dispatch import dispatch

    (entry,) = jitted._entries.values()
    (staged,) = jitted._staged.values()

    class Executable:
        native_call = replace(entry.executable.native_call, pool=pool)

    return dispatch.program(Executable(), staged.program, staged.donated, staged.out_tree)


def test_outputs_keep_their_memory() -> None:
    """A view of a result outlives the result; its block goes back to the pool afterwards."""
    jitted = fd.jit(lambda x: x + 1)
    x = fnp.zeros(10_000)
    jitted(x)
    view = np.asarray(jitted(x))[5:8]
    for _ in range(5):
        jitted(x * 7)
    gc.collect()
    assert view.tolist() == [1, 1, 1]
    misses = cpu_memory.stats().misses
    del view
    for _ in range(10):
        jitted(x)
    assert cpu_memory.stats().misses - misses <= 1
