"""Scatters on a GPU: every kind and element type, many updates of few elements, same bits again.

Slices and rows are written in the memory of what is given up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.update_programs import DTYPES, OTHERS, cases, difference
from tests.runtime.cuda import in_place_programs

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cuda import target

COUNT = 300_000


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("form", "dtype"), [(form, dtype) for dtype in [*DTYPES, *OTHERS] for form in cases(dtype)]
)
def test_programs_compute_what_they_mean(form: str, dtype: np.dtype[Any]) -> None:
    assert difference(form, dtype) == ""


@pytest.mark.gpu
@pytest.mark.parametrize("segments", [1, 7, 200_000])
@pytest.mark.parametrize("method", ["set", "multiply", "min", "max"])
def test_updates_that_meet_have_the_same_bits_again(method: str, segments: int) -> None:
    check_same_bits(method, segments, COUNT)


def check_same_bits(method: str, segments: int, count: int) -> None:
    """Updates of few elements: as on the CPU, and every time."""
    rng = np.random.default_rng(0)
    places = rng.integers(-3, segments + 3, count)
    values = rng.normal(1, 1e-3, count).astype(np.float32)
    x = fnp.ones(segments)

    def program(x: Any, places: Any, values: Any) -> Any:
        return getattr(x.at[places], method)(values)

    wanted = np.asarray(fd.jit(program)(x, places, values))
    given = [fd.device_put(z, "gpu") for z in (x, places, values)]
    found = [np.asarray(fd.jit(program)(*given)) for _ in range(3)]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4 if method == "multiply" else 0)
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.gpu
@pytest.mark.parametrize("donated", [False, True])
@pytest.mark.parametrize("name", in_place_programs.PROGRAMS)
def test_windows_are_written_as_they_mean(
    name: str, donated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "MIN_WRITTEN_BYTES", 0)
    assert in_place_programs.difference(name, donated) == ""


@pytest.mark.gpu
def test_a_cache_is_filled_in_place() -> None:
    check_cache(50_000, 200)


def check_cache(length: int, steps: int) -> None:
    """Rows written into an array of `length` rows of 4 KB, given up by most steps but not by all.

    Graphs with the copy and without it take turns once the program is warm.
    """

    def write(cache: Any, row: Any, at: Any) -> Any:
        return lax.dynamic_update_slice(cache, row[None] * 2, (at, 0)), at + 1

    step = fd.jit(write, donate_argnums=(0, 2))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(steps, 1024)).astype(np.float32)
    wanted = np.ones((length, 1024), np.float32)
    wanted[:steps] = rows * 2
    cache, at = fd.device_put(fnp.ones((length, 1024)), "gpu"), fd.device_put(np.int32(0), "gpu")
    for number, row in enumerate(rows):
        before = cache.buffer
        before.shared = kept = number % 7 == 6
        cache, at = step(cache, row, at)
        assert (cache.buffer.address == before.address) is not kept
        if kept:
            found = before.to_host()
            np.testing.assert_array_equal(found[:number], wanted[:number])
            assert (found[number:] == 1).all()
    np.testing.assert_array_equal(np.asarray(cache), wanted)
    assert int(at) == steps
