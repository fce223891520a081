"""Scatters on a GPU: every kind and element type, many updates of few elements, same bits again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.update_programs import DTYPES, OTHERS, cases, difference

import funcdl as fd
import funcdl.numpy as fnp

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
