"""The names and arguments of functions against JAX's."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import funcdl.lax
import funcdl.numpy
import funcdl.scipy.linalg

pytestmark = pytest.mark.peers

OURS = SimpleNamespace(lax=funcdl.lax.linalg, numpy=funcdl.numpy.linalg, scipy=funcdl.scipy.linalg)


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
