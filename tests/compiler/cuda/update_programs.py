"""Scatters of every kind and element type, as programs: run on stubs, interpreted, or compiled.

``python -m tests.compiler.cuda.update_programs interpret|compile`` prints JSON, in a process of its
own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes
from funcdl.kir.program import all_kernels

NDArray = np.ndarray[Any, Any]
Program = Callable[[Any, Any], Any]

METHODS = ("set", "add", "multiply", "min", "max")
DTYPES = [dtypes.from_short_name(name) for name in ("i8", "i16", "i32", "i64", "u8", "u16", "u32")]
DTYPES += [dtypes.from_short_name(name) for name in ("u64", "bf16", "f16", "f32", "f64")]
OTHERS = [dtypes.from_short_name(name) for name in ("bool", "c64", "c128")]
BOOL_METHODS = ("set", "min", "max")
COMPLEX_METHODS = ("set", "add", "multiply")

# Rows 1 and 4 of five are met more than once; -7 and 9 are outside.
PLACES = np.array([1, 4, 1, 9, -1, 1, -7, 3], np.int32)
SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0]


def _rows(method: str, mode: str) -> Program:
    return lambda x, y: getattr(x.at[PLACES], method)(y, mode=mode)


def _windows(x: Any, y: Any) -> Any:
    """Windows of four elements that overlap, one of which begins too late and is moved."""
    numbers = lax.ScatterDimensionNumbers((1,), (), (0,))
    places = fnp.array([[0], [2], [1], [3]])
    return lax.scatter_mul(x[:, 0], places, y[:4].repeat(2, 1)[:, :4], numbers, mode="clip")


def _place(y: Any) -> Any:
    """A computed row."""
    return fnp.sum(y[:, 0] == y[0, 0]).astype(np.int32) % 5


def _window_of_each_column(x: Any, y: Any) -> Any:
    """Two rows, which begin elsewhere in each column; the last ones are moved, or left out."""
    numbers = lax.ScatterDimensionNumbers((1,), (), (0,), (1,), (0,))
    places = (_place(y) + fnp.arange(3))[:, None]
    return lax.scatter(x, places, y[:3, :2], numbers, mode="clip")


def _in_a_loop(method: str) -> Program:
    def program(x: Any, y: Any) -> Any:
        def step(carry: Any, i: Any) -> Any:
            return getattr(carry.at[PLACES - i], method)(y), None

        return lax.scan(step, x, fnp.arange(2))[0]

    return program


# Of which no two points meet.
WINDOWS: dict[str, Program] = {
    "set one row": lambda x, y: x.at[_place(y)].set(y[1]),
    "set one row, clip": lambda x, y: x.at[_place(y) + 3].set(y[1], mode="clip"),
    "set one row outside": lambda x, y: x.at[_place(y) + 5].set(y[1]),
    "set one column": lambda x, y: x.at[:, _place(y) % 3].set(y[:5, 0]),
    "set one element": lambda x, y: x.at[_place(y), _place(y) % 2].set(y[0, 1]),
    "set one of each column": _window_of_each_column,
    "set one of each row": lambda x, y: fd.vmap(lambda x, i, y: x.at[i % 3].set(y))(
        x, _place(y) + fnp.arange(5), y[:5, 0]
    ),
}

FORMS: dict[str, Program] = {
    **{f"{m} rows, {mode}": _rows(m, mode) for m in METHODS for mode in ("drop", "clip")},
    **WINDOWS,
    **{f"{m} in a loop": _in_a_loop(m) for m in ("multiply", "max")},
    "multiply columns": lambda x, y: x.at[:, fnp.array([2, 0, 2])].multiply(y[:5]),
    "multiply windows": _windows,
    "multiply one element": lambda x, y: x.at[fnp.argmax(y[:, 0]) % 5].multiply(2),
    "multiply, none meet": lambda x, y: x.at[fnp.array([3, 1])].multiply(
        y[:2], unique_indices=True
    ),
    "multiply all of one": lambda x, y: x.at[fnp.zeros(8, np.int32), 1].multiply(y[:, 1]),
    "max of computed": lambda x, y: (x + x).at[PLACES].max(y * y),
    "max mapped": fd.vmap(lambda x, y: x.at[fnp.array([0, 2, 0])].max(y), in_axes=(0, None)),
    "products of segments": lambda x, y: fd.ops.segment_prod(y, PLACES % 3, 4),
    "minima of segments": lambda x, y: fd.ops.segment_min(y, PLACES % 3, 4),
    "nothing": lambda x, y: x.at[fnp.zeros(0, np.int32)].multiply(y[:0]).at[:0].max(y[:0]),
    "no columns": lambda x, y: x[:, :0].at[PLACES].multiply(y[:, :0]).at[PLACES].set(y[:, :0]),
}

GRADIENTS: dict[str, Program] = {
    method: fd.grad(
        lambda x, y, m=method: fnp.sum(getattr(x.at[PLACES], m)(y) ** 2), argnums=(0, 1)
    )
    for method in METHODS
}


def operands(form: str, dtype: np.dtype[Any]) -> tuple[NDArray, NDArray]:
    """An operand of five rows and eight rows of updates, with duplicates and special values."""
    rng = np.random.default_rng(0)
    shapes = ((5, 3), (8, 3))
    if form == "max mapped":
        shapes = ((5, 3), (3,))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        ends = np.array([info.min, info.max, 0, 1], dtype)
        x, y = (
            np.where(rng.random(s) < 0.3, rng.choice(ends, s), rng.integers(0, 9, s).astype(dtype))
            for s in shapes
        )
        return x, y
    if dtype == np.bool_:
        x, y = (rng.random(s) < 0.5 for s in shapes)
        return x, y
    if dtype.kind == "c":
        x, y = ((rng.normal(size=s) + 1j * rng.normal(size=s)).astype(dtype) for s in shapes)
        return x, y
    found = [rng.normal(size=s).astype(dtype) for s in shapes]
    for x in found:
        chosen = rng.random(x.shape) < 0.3
        x[chosen] = rng.choice(SPECIAL, chosen.sum()).astype(dtype)
    return found[0], found[1]


def cases(dtype: np.dtype[Any]) -> list[str]:
    """The forms that an element type has."""
    few = {"b": BOOL_METHODS, "c": COMPLEX_METHODS}.get(dtype.kind)
    if few is None:
        return list(FORMS)
    return [*WINDOWS, *(f"{m} rows, {mode}" for m in few for mode in ("drop", "clip"))]


def difference(form: str, dtype: np.dtype[Any]) -> str:
    """What differs between the GPU that is installed and the reference; "" if nothing."""
    x, y = operands(form, dtype)
    with fd.config.override(backend="reference"):
        wanted = np.asarray(fd.jit(FORMS[form])(x, y))
    out = fd.jit(FORMS[form])(fd.device_put(x, "gpu"), fd.device_put(y, "gpu"))
    found = np.asarray(out)
    if out.platform != "gpu" or found.dtype != wanted.dtype or found.shape != wanted.shape:
        return f"{out.platform} {found.dtype} {found.shape} for {wanted.dtype} {wanted.shape}"
    if dtype.kind in "iub":
        return "" if np.array_equal(found, wanted) else f"{found} for {wanted}"
    # Factors and terms meet in another order; extremes and what is overwritten have no rounding.
    rounds = form.startswith(("multiply", "add", "products"))
    tolerance = 8 * float(ml_dtypes.finfo(dtype).eps) if rounds else 0.0
    wide = np.complex128 if dtype.kind == "c" else np.float64
    left, right = found.astype(wide), wanted.astype(wide)
    same = np.allclose(left, right, rtol=tolerance, atol=0.0, equal_nan=True)
    return "" if same else f"{found} for {wanted}"


def kernels(form: str, dtype: np.dtype[Any]) -> list[Any]:
    """The kernels of a program for a GPU, with their schedules."""
    x, y = operands(form, dtype)
    with fd.config.override(backend="gpu"):
        lowered: Any = fd.jit(FORMS[form]).lower(x, y)
    program = lowered._lowered._pipeline.program
    return [pair for segment in program.segments for pair in all_kernels(segment)]


INTERPRETED = [
    *((f"{m} rows, drop", d) for m in METHODS for d in (DTYPES[0], DTYPES[-2])),
    *((f"{m} rows, clip", d) for m in ("min", "max") for d in DTYPES),
    ("max rows, drop", np.dtype(np.bool_)),
    *((f"{m} rows, drop", np.dtype(np.complex64)) for m in COMPLEX_METHODS),
    *(("set one row", d) for d in (*DTYPES, *OTHERS) if d != DTYPES[-2]),
    *((form, DTYPES[-2]) for form in FORMS if "rows" not in form),
]


def _interpret() -> dict[str, str]:
    from funcdl.kernels.triton.interpret import interpret

    found = {}
    for form, dtype in INTERPRETED:
        with installed(StubGpu(run=interpret)):
            found[f"{form} {dtype}"] = difference(form, dtype)
    return found


def _compile(*archs: str) -> dict[str, str]:
    from tests.kernels.resources import assert_fits

    from funcdl.kernels.triton.render import render_kernel

    found: dict[str, str] = {}
    for dtype in [*DTYPES, *OTHERS]:
        for form in cases(dtype):
            many = "rows, drop" in form or form == "set one row"
            if not many and dtype != np.float32:
                continue
            for kernel in [render_kernel(*pair) for pair in kernels(form, dtype)]:
                for arch in archs:
                    # Different programs share some of their kernels.
                    name = f"{arch} {kernel.source}"
                    if name not in found:
                        try:
                            assert_fits(kernel, int(arch))
                            found[name] = ""
                        except Exception as error:
                            found[name] = f"{form} {dtype}: {type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    print(json.dumps({"interpret": _interpret, "compile": _compile}[mode](*rest)))
