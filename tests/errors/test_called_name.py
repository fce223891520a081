"""Messages name the function that the user called, also where another one found the mistake."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, random
from funcdl.errors import FuncdlError, OperandError
from funcdl.scipy import special

X, M = fnp.ones(3), fnp.ones((2, 3))

CALLS: dict[str, Callable[[], Any]] = {
    "ptp: axis 1 is out of range for an array of 1 dimension": lambda: fnp.ptp(X, 1),
    "hstack: shapes must be equal apart from axis 1, got (2, 3), (1, 3)": lambda: fnp.hstack(
        [M, fnp.ones((1, 3))]
    ),
    "vstack: shapes must be equal apart from axis 0, got (1, 3), (1, 2)": lambda: fnp.vstack(
        [X, X[:2]]
    ),
    "dot: precision must be None, a lax.Precision or its name ('default', 'high', "
    "'highest'), a pair of these, or a dot algorithm; got 'much'": lambda: lax.dot(
        X, X, precision="much"
    ),
    "softmax: axis 2 is out of range for an array of 1 dimension": lambda: nn.softmax(X, 2),
    "normal: shape must have no negative sizes, got (-1,)": lambda: random.normal(
        random.key(0), (-1,)
    ),
    # Each of a function's names, and the argument as the user named it.
    "amax: axis 1 is out of range for an array of 1 dimension": lambda: fnp.amax(fnp.max(M, 1), 1),
    "min: axis 1 is out of range for an array of 1 dimension": lambda: fnp.min(fnp.amin(M, 1), 1),
    "acos requires arrays or scalars, got str as argument x: 'a'": lambda: fnp.acos("a"),
    "clip requires arrays or scalars, got str as argument max: 'a'": lambda: fnp.clip(X, 0, "a"),
    "vstack requires arrays or scalars, got str as argument tup[1]: 'a'": lambda: fnp.vstack(
        [X, "a"]
    ),
    "softmax requires arrays or scalars, got str as argument where: 'a'": lambda: nn.softmax(
        X, where="a"
    ),
    "select_n requires arrays or scalars, got str as argument cases[1]: 'a'": lambda: lax.select_n(
        X > 0, X, "a"
    ),
    # Wrapped functions: of random keys, part by part, and of one dtype.
    "where: keys and numbers cannot be put into one array, got f32[3]": lambda: fnp.where(
        X > 0, random.split(random.key(0), 3), X
    ),
    "take requires arrays or scalars, got str as argument a: 'a'": lambda: fnp.take("a", 0),
    "gammaln takes real numbers, got c64[3]": lambda: special.gammaln(X * 1j),
    "comb requires arrays or scalars, got str as argument k: 'a'": lambda: special.comb(X, "a"),
    "result_type: cannot find a dtype for {}: pass an array, a scalar or a dtype": lambda: (
        fnp.result_type({})
    ),
    # A method, and the function of a user that the library calls: it called what it called.
    "std: axis 1 is out of range for an array of 1 dimension": lambda: X.std(1),
    "max: axis 1 is out of range for an array of 1 dimension": lambda: lax.map(
        lambda x: fnp.max(x, 1), M
    ),
    # Through transforms, and in what they hand on.
    "ptp: axis 2 is out of range for an array of 1 dimension": lambda: fd.jit(
        fd.vmap(lambda x: fnp.ptp(x, 2))
    )(M),
    # Operators are no calls.
    "matmul: operands must have at least one dimension, got f32[3] and f32[]; multiply by scalars "
    "with *": lambda: X @ 2.0,
    "argument 'x' of nothing": lambda: _raise("argument 'x' of nothing"),
}


def _raise(text: str) -> Any:
    raise OperandError(text)


@pytest.mark.parametrize("message", CALLS)
def test_the_message(message: str) -> None:
    with pytest.raises(FuncdlError) as refused:
        CALLS[message]()
    assert str(refused.value) == message


def test_what_is_passed_on_keeps_the_reason_alone() -> None:
    with pytest.raises(OperandError) as refused:
        fnp.ptp(X, 1)
    error = refused.value
    assert error.reason == "max: axis 1 is out of range for an array of 1 dimension"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert FuncdlError("as it is").reason == "as it is"
