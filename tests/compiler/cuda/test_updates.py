"""Scatters on a GPU: every kind and element type, with values that meet, special ones and none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.update_programs import (
    DTYPES,
    FORMS,
    GRADIENTS,
    METHODS,
    OTHERS,
    cases,
    difference,
    operands,
)
from tests.golden import assert_golden
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd

GOLDEN = Path(__file__).parents[2] / "kernels/golden_triton"
F32 = np.dtype(np.float32)


@pytest.mark.parametrize("dtype", [*DTYPES, *OTHERS], ids=str)
def test_scatters_compute_what_they_mean(dtype: np.dtype[Any]) -> None:
    """Without a kernel on the host, of which a warning would tell, and be an error here."""
    with installed(StubGpu()):
        assert {form: difference(form, dtype) for form in cases(dtype)} == dict.fromkeys(
            cases(dtype), ""
        )


@pytest.mark.parametrize("method", METHODS)
def test_derivatives(method: str) -> None:
    x, y = (np.nan_to_num(z, posinf=2, neginf=-3) for z in operands("", F32))
    wanted = fd.jit(GRADIENTS[method])(x, y)
    with installed(StubGpu()):
        found = fd.jit(GRADIENTS[method])(fd.device_put(x, "gpu"), fd.device_put(y, "gpu"))
        for left, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(left), right, rtol=1e-5, atol=1e-5)


def test_zeros_of_both_signs_are_in_order() -> None:
    x = np.array([0.0, -0.0, -0.0, 0.0], np.float32)
    with installed(StubGpu()):
        given = fd.device_put(x, "gpu")
        most, least = (
            fd.jit(lambda x, m=m: getattr(x.at[np.arange(4)], m)(-x))(given) for m in ("max", "min")
        )
        assert not np.signbit(np.asarray(most)).any() and np.signbit(np.asarray(least)).all()


def test_factors_are_multiplied_in_one_order_that_begins_with_the_old_value() -> None:
    """As the reference does with up to two of them; of more, neighbours first."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20)).astype(np.float32)
    places = np.arange(20) // 2
    with installed(StubGpu()):
        multiply = fd.jit(lambda x, y: x.at[places].multiply(y))
        out = np.asarray(multiply(*(fd.device_put(z, "gpu") for z in (x, y))))
        np.testing.assert_array_equal(out[:10], x[:10] * y[::2] * y[1::2])
        huge = np.full_like(x, 1e30)
        out = np.asarray(multiply(*(fd.device_put(z, "gpu") for z in (1 / huge, huge))))
        assert np.isfinite(out).all()


def test_many_factors_are_sorted_in_passes() -> None:
    rng = np.random.default_rng(0)
    places, y = rng.integers(-1, 12, 20_001), rng.integers(1, 9, 20_001).astype(np.uint32) | 1
    wanted = np.full(10, 3, np.uint32)
    kept = (places >= 0) & (places < 10)
    np.multiply.at(wanted, places[kept], y[kept])
    with installed(StubGpu()) as gpu:
        multiply = fd.jit(lambda p, y: fd.ops.segment_prod(y, p, 10) * 3)
        found = multiply(*(fd.device_put(z, "gpu") for z in (places, y)))
        np.testing.assert_array_equal(np.asarray(found), wanted)
        assert any("merge_runs" in name for name, _ in gpu.compiled)


@pytest.mark.parametrize(
    ("name", "form"),
    [("max", "max rows, drop"), ("multiply", "multiply rows, drop"), ("one_row", "set one row")],
)
def test_golden_text(name: str, form: str) -> None:
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(FORMS[form]).lower(*operands(form, F32))
    assert_golden(GOLDEN / f"scatter_{name}.txt", lowered.as_text("triton"))


def test_more_factors_need_no_more_kernels_to_compile() -> None:
    def kernels(count: int) -> int:
        given = [fd.ShapeDtypeStruct((n,), np.float32) for n in (1000, count)]
        with fd.config.override(backend="gpu"):
            lowered = fd.jit(lambda x, y: x.at[y.astype(int)].multiply(y)).lower(*given)
        starts = [x for x in lowered.as_text("kernels").splitlines() if x.startswith("kernel ")]
        return sum("_merge" not in start for start in starts)

    assert kernels(100_000) == kernels(1_000_000) <= 9


@pytest.mark.triton
def test_in_tritons_interpreter() -> None:
    found = answer("-m", "tests.compiler.cuda.update_programs", "interpret", interpret=True)
    assert len(found) > 40 and {name: why for name, why in found.items() if why} == {}


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["80", "90"])
def test_every_kernel_compiles(arch: str) -> None:
    found = answer("-m", "tests.compiler.cuda.update_programs", "compile", arch, interpret=False)
    assert len(found) > 50 and {name: why for name, why in found.items() if why} == {}
