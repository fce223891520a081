"""Python values of traced arrays: known under derivatives of unjitted functions, else refused.

The messages are in tests/errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ConcretizationError, TracerArrayError, TracerBoolError


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def slope(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: fd.jvp(f, (x,), (fnp.ones_like(x),))[1]


def pulled(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: fd.vjp(f, x)[1](fnp.ones_like(x))[0]


DERIVATIVES = {
    "jvp": slope,
    "vjp": pulled,
    "grad": fd.grad,
    "linearize": lambda f: lambda x: fd.linearize(f, x)[1](1.0),
    "grad of grad": lambda f: fd.grad(lambda x: x * fd.grad(f)(x)),
    "jvp of grad": lambda f: slope(fd.grad(f)),
}
MIXED = {
    "jit": fd.jit,
    "jit of grad": lambda f: fd.jit(fd.grad(f)),
    "grad of jit": lambda f: fd.grad(fd.jit(f)),
    "vmap": lambda f: lambda x: fd.vmap(f)(x[None]),
    "vmap of grad": lambda f: lambda x: fd.vmap(fd.grad(f))(x[None]),
    "grad of vmap": lambda f: fd.grad(lambda x: fd.vmap(f)(x[None]).sum()),
    "make_jaxpr": fd.make_jaxpr,
    "eval_shape": lambda f: lambda x: fd.eval_shape(f, x),
}


def by_branch(x: Any) -> Any:
    return x * x if x > 1 else -x


def by_loop(x: Any) -> Any:
    for _ in range(int(x)):
        x = x * 1.5
    return x


@pytest.mark.parametrize("name", DERIVATIVES)
def test_python_control_flow_in_derivatives(name: str) -> None:
    transform = DERIVATIVES[name]
    for f, same in ((by_branch, lambda x: x * x), (by_loop, lambda x: x * 1.5**2)):
        x = fnp.float64(2.25)
        assert transform(f)(x).item() == pytest.approx(transform(same)(x).item())
    assert transform(by_branch)(fnp.float64(0.5)).item() == pytest.approx(
        transform(lambda x: -x)(fnp.float64(0.5)).item()
    )


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize(
    ("f", "error"), [(by_branch, TracerBoolError), (by_loop, ConcretizationError)]
)
def test_python_control_flow_on_unknown_values(
    name: str, f: Callable[[Any], Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        MIXED[name](f)(fnp.float64(2.25))


@pytest.mark.parametrize("name", [*DERIVATIVES, *MIXED])
@pytest.mark.parametrize("convert", [float, complex, np.asarray, np.sin, lambda x: x.item()])
def test_numbers_are_refused_by_every_transform(name: str, convert: Any) -> None:
    """Even where the value is known, since the derivative would be lost."""
    transform = (DERIVATIVES | MIXED)[name]
    with pytest.raises((ConcretizationError, TracerArrayError)):
        transform(lambda x: x * convert(x))(fnp.float64(2.0))


def test_values_that_do_not_depend_on_the_arguments_are_known() -> None:
    """Those from outside; as in JAX, `jit` records what is computed of them inside."""
    y, one = fnp.asarray([1.0, 2.0]), fnp.float32(1)

    def f(x: Any) -> Any:
        assert y.tolist() == [1, 2] and np.asarray(y).shape == (2,) and float(one) == 1.0
        return x * float(one)

    for transform in (fd.jit, fd.grad, fd.make_jaxpr, slope):
        transform(f)(2.0)
    assert fd.vmap(f)(y).tolist() == [1, 2]
    assert fd.grad(lambda x: x * float(y.sum()))(2.0).item() == 3.0
    with pytest.raises(ConcretizationError):
        fd.jit(lambda x: x * float(y.sum()))(2.0)


def test_types_are_known() -> None:
    @fd.jit
    def f(x: Any) -> Any:
        assert (x.shape, x.ndim, x.size, len(x), x.dtype.name) == ((2, 3), 2, 6, 2, "float32")
        a, b = x
        return sum(row.sum() for row in x) + a[0] + b[-1]

    assert f(fnp.ones((2, 3))).item() == 8
