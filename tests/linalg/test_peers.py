"""Every public function against JAX: value, jvp, vjp, vmap, jit."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.linalg.table import PROGRAMS, Program

import funcdl as fd
import funcdl.lax
import funcdl.numpy
import funcdl.scipy.linalg
from funcdl.core import dtypes

pytestmark = pytest.mark.peers

OURS = SimpleNamespace(lax=funcdl.lax.linalg, numpy=funcdl.numpy.linalg, scipy=funcdl.scipy.linalg)
QUICK = {
    "lax.cholesky-1",
    "lax.eig-1",
    "lax.qr-1",
    "lax.svd-3",
    "lax.triangular_solve-4",
    "numpy.det-3",
    "numpy.pinv-4",
}
CASES = [
    pytest.param(p, id=p.name, marks=[] if p.name in QUICK else [pytest.mark.slow])
    for p in PROGRAMS
]


@contextlib.contextmanager
def jax_in_double_precision() -> Iterator[tuple[Any, Any]]:
    import jax
    import jax.lax.linalg
    import jax.numpy.linalg
    import jax.scipy.linalg

    with jax.enable_x64(True):
        yield (
            jax,
            SimpleNamespace(lax=jax.lax.linalg, numpy=jax.numpy.linalg, scipy=jax.scipy.linalg),
        )


def leaves(tree: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(x) for x in fd.tree.leaves(tree)]


def compare(found: Any, wanted: Any) -> None:
    import jax

    ours, theirs = leaves(found), [np.asarray(x) for x in jax.tree.leaves(wanted)]
    assert len(ours) == len(theirs)
    for x, y in zip(ours, theirs, strict=True):
        assert x.shape == y.shape
        assert dtypes.kind(x.dtype) == dtypes.kind(y.dtype)
        # JAX's default integers are wider in this mode.
        assert x.dtype == y.dtype or x.dtype.kind in "ib"
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-8)


def direction(x: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    t = rng.uniform(-1, 1, x.shape)
    return np.asarray(t + 1j * rng.uniform(-1, 1, x.shape) if x.dtype.kind == "c" else t, x.dtype)


def directions(program: Program, seed: int) -> list[np.ndarray[Any, Any]]:
    return [direction(x, seed + i) for i, x in enumerate(program.args)]


def smooth(tree: Any) -> list[Any]:
    """The results that have derivatives."""
    import jax

    return [x for x in jax.tree.leaves(tree) if dtypes.kind(x.dtype) in "fc"]


@pytest.mark.parametrize("program", CASES)
def test_values_and_derivatives(program: Program) -> None:
    # Compiling takes JAX half a second for each program, so that most of them are slow tests.
    with jax_in_double_precision() as (jax, theirs):

        def ours_of(*xs: Any) -> Any:
            return program.function(OURS, *xs)

        def theirs_of(*xs: Any) -> Any:
            return program.function(theirs, *xs)

        wanted = theirs_of(*map(jax.numpy.asarray, program.args))
        compare(ours_of(*map(fd.numpy.asarray, program.args)), wanted)
        compare(fd.jit(ours_of)(*program.args), wanted)
        if not (program.grad and program.jax_grad):
            return
        tangents = directions(program, 0)
        ours, other = lambda *xs: smooth(ours_of(*xs)), lambda *xs: smooth(theirs_of(*xs))
        compare(fd.jvp(ours, program.args, tangents), jax.jvp(other, program.args, tuple(tangents)))
        outs, pull = fd.vjp(ours, *program.args)
        cts = [direction(np.asarray(out), 1) for out in outs]
        compare(pull(cts), jax.vjp(other, *program.args)[1](cts))


# What chooses an implementation or a layout on several devices, which there are none of here.
NOT_HERE = {
    "algorithm",
    "dynamic_shape",
    "implementation",
    "out_sharding",
    "use_magma",
}
# SciPy's that are not here.
ABSENT = {
    "circulant",
    "companion",
    "convolution_matrix",
    "dft",
    "eigh_tridiagonal",
    "fiedler",
    "fiedler_companion",
    "funm",
    "hadamard",
    "hankel",
    "helmert",
    "hilbert",
    "invhilbert",
    "invpascal",
    "leslie",
    "pascal",
    "qr_multiply",
    "rsf2csf",
    "solve_sylvester",
}


@pytest.mark.parametrize("module", ["lax", "numpy", "scipy"])
def test_names_and_arguments(module: str) -> None:
    with jax_in_double_precision() as (_, theirs):
        names = {
            name
            for name, value in vars(getattr(theirs, module)).items()
            if inspect.isfunction(value) or hasattr(value, "lower")
            if not name.startswith("_")
        }
        ours = getattr(OURS, module)
        absent = ABSENT if module == "scipy" else set()
        assert names - absent == set(ours.__all__) & names
        assert set(ours.__all__) <= names
        for name in ours.__all__:
            wanted = inspect.signature(getattr(getattr(theirs, module), name)).parameters
            found = inspect.signature(getattr(ours, name)).parameters
            assert [n for n in wanted if n not in NOT_HERE] == list(found), name
