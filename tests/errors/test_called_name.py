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

X, M = fnp.ones(3), fnp.ones((2, 3))

CALLS: dict[str, Callable[[], Any]] = {
    "ptp: max: axis 1 is out of range for an array of 1 dimension": lambda: fnp.ptp(X, 1),
    "hstack: concatenate: shapes must be equal apart from axis 1, got (2, 3), (1, 3)": lambda: (
        fnp.hstack([M, fnp.ones((1, 3))])
    ),
    "vstack: concatenate: shapes must be equal apart from axis 0, got (1, 3), (1, 2)": lambda: (
        fnp.vstack([X, X[:2]])
    ),
    "dot: dot_general: precision must be None, a lax.Precision or its name ('default', 'high', "
    "'highest'), a pair of these, or a dot algorithm; got 'much'": lambda: lax.dot(
        X, X, precision="much"
    ),
    "softmax: max: axis 2 is out of range for an array of 1 dimension": lambda: nn.softmax(X, 2),
    "normal: shape must have no negative sizes, got (-1,)": lambda: random.normal(
        random.key(0), (-1,)
    ),
    # A method, and the function of a user that the library calls: it called what it called.
    "std: var: axis 1 is out of range for an array of 1 dimension": lambda: X.std(1),
    "max: axis 1 is out of range for an array of 1 dimension": lambda: lax.map(
        lambda x: fnp.max(x, 1), M
    ),
    # Through transforms, and in what they hand on.
    "ptp: max: axis 2 is out of range for an array of 1 dimension": lambda: fd.jit(
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
