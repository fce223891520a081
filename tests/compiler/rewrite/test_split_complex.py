"""Complex programs become real ones: by table over every primitive, at the edges, and in loops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.rewrite.complex_process import names
from tests.golden import assert_golden
from tests.ops.table import OPS, is_by_parts
from tests.process import answer

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.rewrite.complex_formulas import FORMULAS
from funcdl.compiler.rewrite.split_complex import split_complex
from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.ops import linalg
from funcdl.runtime.toolchain import find_compiler
from funcdl.transforms import jit

NDArray = np.ndarray[Any, Any]

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

ON_THE_HOST = {
    "cummax": "numbers are ordered by pairs of parts",
    "cummin": "numbers are ordered by pairs of parts",
    "cumprod": "a product of numbers mixes their parts",
    "reduce_max": "numbers are ordered by pairs of parts",
    "reduce_min": "numbers are ordered by pairs of parts",
    "reduce_prod": "a product of numbers mixes their parts",
    "scatter_mul": "a product of numbers mixes their parts",
    "sort": "numbers are ordered by pairs of parts",
}


def test_what_is_left_to_the_host() -> None:
    """Besides Fourier transforms and factorisations."""
    elsewhere = {p.name for p in vars(linalg).values() if hasattr(p, "name")} | {"fft"}
    left = {
        name
        for name, op in OPS.items()
        if "c64" in op.dtypes
        and not is_by_parts(name, "c64")
        and name not in elsewhere
        and "c" not in op.missing
    }
    assert left == set(ON_THE_HOST)


def normal(*shape: int, seed: int = 0, dtype: Any = np.complex64) -> NDArray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


def scan(z: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        total, count = carry
        return (total * 0.5j + row, count + 1), (total, fnp.abs(row))

    return lax.scan(step, (fnp.zeros_like(z[0]), 0), z)


def while_loop(z: Any) -> Any:
    turn = z[0] / fnp.abs(z[0])
    return lax.while_loop(lambda v: fnp.max(fnp.abs(v)) < 50, lambda v: v * turn * 1.5 + z[1], z[1])


def branches(z: Any) -> Any:
    return [lax.switch(i, [fnp.exp, fnp.conj, lambda v: v * v], z) for i in fnp.arange(3)]


def loop_with_the_host(z: Any) -> Any:
    return lax.scan(lambda c, row: (c * fnp.prod(row), c + row), z[0], z)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda z: fnp.exp(z) * z + fnp.abs(z) / (1 + z),
    "both parts": lambda z: (z.real, z.imag, fnp.angle(z)),
    "norm": lambda z: fnp.sum(z * z.conj(), axis=1).real,
    "input and views": lambda z: (z, z.T, z[::2, ::-1], z.reshape(-1)[1:]),
    "constants": lambda z: (z + (1 + 2j), fnp.full((3,), 1j, z.dtype), 2j),
    "gathered": lambda z: (z[fnp.array([4, 0, 4]), ::2], z.at[fnp.array([1, 1])].add(1j)),
    "products": lambda z: (z @ z.T, fnp.vdot(z, z), fnp.einsum("ij,kj->ki", z, z.conj())),
    "one real factor": lambda z: (z.real @ z.imag.T) * z[:, :1],
    "softmax of sizes": lambda z: (
        fnp.exp(z - fnp.max(z.real, 1, keepdims=True)) / fnp.sum(z, 1)[:, None]
    ),
    "the host between": lambda z: fnp.prod(z * 2, axis=0) + z,
    "stacked": lambda z: fnp.concatenate([z, fnp.pad(z, ((1, 0), (0, 0)))], axis=0),
    "empty": lambda z: (z[:0] * 2, fnp.sum(z[:0], axis=0)),
    "gradient": lambda z: fd.grad(lambda v: fnp.sum(fnp.abs(fnp.tanh(v) @ z.T) ** 2))(z),
    "map": fd.vmap(lambda row: fnp.outer(row, row.conj())),
    "scan": scan,
    "while": while_loop,
    "branches": branches,
    "loop with the host": loop_with_the_host,
}


@needs_compiler
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_the_reference_does(name: str, dtype: Any) -> None:
    z = normal(5, 7, dtype=dtype)
    with config.override(x64="on" if dtype == np.complex128 else "explicit"):
        with config.override(backend="reference"):
            wanted = fd.tree.leaves(jit(PROGRAMS[name])(z))
        with config.override(backend="cpu"):
            found = fd.tree.leaves(jit(PROGRAMS[name])(z))
    tolerance = 200 * float(np.finfo(dtype).eps)
    for x, y in zip(found, wanted, strict=True):
        assert (x.dtype, x.shape, x.weak_type) == (y.dtype, y.shape, y.weak_type)
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), tolerance, tolerance * 10)


@pytest.mark.parametrize("name", [n for n in PROGRAMS if "host" not in n])
def test_kernels_have_real_buffers_only(name: str) -> None:
    with config.override(backend="cpu"):
        text = jit(PROGRAMS[name]).lower(normal(5, 7)).as_text("kernels")
    assert not [line for line in text.splitlines() if line.startswith("host")]
    assert "c64" not in text


def test_a_real_program_stays_what_it_is() -> None:
    closed: Any = fd.make_jaxpr(lambda x: fnp.exp(x) * 2)(1.0)
    assert split_complex(closed) is closed


def test_a_program_that_is_split_stays_what_it_is() -> None:
    program = split_complex(fd.make_jaxpr(lambda z: fnp.prod(z * 2) + z)(normal(3)))
    assert split_complex(program) is program


def edges(dtype: np.dtype[Any]) -> NDArray:
    """Numbers whose parts are zeros, tiny, huge, or infinite."""
    info = np.finfo(dtype)
    plain = [0.0, 1e-25, 0.5, 1.0, 1.5, 3.0, 10.0, 50.0, 89.0, 1e5]
    ends = [float(info.tiny), float(info.max) / 2, np.inf]
    values = np.array([*plain, *ends], info.dtype)
    values = np.concatenate([values, -values])
    out = np.empty((values.size, values.size), dtype)
    out.real, out.imag = values[:, None], values
    return out.reshape(-1)


EDGES = sorted(
    name
    for name in FORMULAS
    if len(next(OPS[name].samples(np.random.default_rng(0), np.dtype(np.complex64))).args) == 1
    and name not in ("complex", "convert_element_type", "integer_pow")
)


@needs_compiler
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_values_at_the_edges_are_those_of_the_reference(dtype: Any) -> None:
    """Where those are finite; and infinite where they are, but for two infinite parts."""
    z = edges(np.dtype(dtype))
    primitives = {name: OPS[name].primitive for name in EDGES}
    with config.override(backend="cpu", x64="on"):
        results = jit(lambda z: {name: p(z) for name, p in primitives.items()})(Array(z))
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    one_infinite = ~(np.isinf(z.real) & np.isinf(z.imag))
    for name, primitive in primitives.items():
        wanted, found = np.asarray(primitive.impl(z)), np.asarray(results[name])
        assert found.dtype == wanted.dtype
        checked = one_infinite & (np.abs(z.imag) <= 1e3 if name == "exp2" else True)
        if name == "log1p":  # NumPy's loses all digits where z is small
            checked &= np.abs(z) > 0.1
        if name == "rsqrt":  # NumPy's is NaN at 0
            checked &= z != 0
        finite = checked & np.isfinite(wanted)
        x, y = found[finite].astype(np.complex128), wanted[finite].astype(np.complex128)
        with np.errstate(all="ignore"):
            bad = ~(np.abs(x - y) <= 24 * eps * np.abs(y) + tiny)
        assert not bad.any(), (name, z[finite][bad][:4], x[bad][:4], y[bad][:4])
        np.testing.assert_array_equal(
            np.isinf(found[checked]), np.isinf(wanted[checked]), f"infinities of {name}"
        )


@needs_compiler
@pytest.mark.parametrize("name", ["sqrt", "log", "asin", "acos", "atan", "asinh", "acosh", "atanh"])
def test_signs_of_zeros_choose_the_side_of_a_branch_cut(name: str) -> None:
    parts = [-3.0, -1.5, -0.0, 0.0, 0.5, 3.0]
    z = np.array([complex(a, b) for a in parts for b in parts], np.complex64)
    primitive = OPS[name].primitive
    with config.override(backend="cpu"):
        found = np.asarray(jit(lambda z: primitive(z))(Array(z)))
    wanted = primitive.impl(z)
    np.testing.assert_allclose(found, wanted, 1e-5, 1e-6)
    for x, y in ((found.real, wanted.real), (found.imag, wanted.imag)):
        apart = (np.abs(y) > 1e-6) & np.isfinite(y)
        np.testing.assert_array_equal(np.signbit(x[apart]), np.signbit(y[apart]))


@needs_compiler
@pytest.mark.parametrize("name", ["mul", "div", "pow", "max", "min", "eq", "ne"])
def test_pairs_of_numbers(name: str) -> None:
    parts = np.array([-2.0, -0.5, 0.0, 1.0, 3.0], np.float32)
    z = np.array([complex(a, b) for a in parts for b in parts], np.complex64)
    x, y = (v.reshape(-1) for v in np.meshgrid(z, z))
    primitive = OPS[name].primitive
    with config.override(backend="cpu"):
        found = np.asarray(jit(lambda x, y: primitive(x, y))(Array(x), Array(y)))
    wanted = np.asarray(primitive.impl(x, y))
    finite = np.isfinite(wanted)
    if name == "pow":  # NumPy's powers of zero with complex exponents are NaN
        finite &= x != 0
    tolerance = 16 * float(np.finfo(np.float32).eps)
    scale = np.abs(wanted[finite]) if dtypes.is_inexact(wanted.dtype) else 0
    difference = np.abs(found[finite].astype(complex) - wanted[finite])
    assert (difference <= tolerance * scale).all()


@pytest.mark.triton
def test_every_primitive_in_tritons_interpreter() -> None:
    assert len(names()) > 55
    assert answer("-m", "tests.compiler.rewrite.complex_process", "interpret", interpret=True) == []


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["80", "90"])
def test_triton_compiles_every_primitive(arch: str) -> None:
    module = "tests.compiler.rewrite.complex_process"
    assert answer("-m", module, "compile", arch, interpret=False) == []


def test_the_triton_source_of_a_quotient_and_a_sum() -> None:
    with config.override(backend="gpu"):
        lowered = jit(lambda x, y: fnp.sum(x / y, axis=1)).lower(normal(5, 37), normal(5, 37))
    folder = Path(__file__).parents[2] / "kernels" / "golden_triton"
    assert_golden(folder / "complex_quotient_sum.txt", lowered.as_text("triton"))
