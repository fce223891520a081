"""What einsum is made of, its paths and its errors; values are in cases_structure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, ShapeError

A, B, C = (np.ones(shape, np.float32) for shape in ((2, 3), (3, 4), (4, 5)))
Q, K = (np.ones((2, 7, 3, 4), np.float32) for _ in range(2))

PROGRAMS: list[tuple[str, tuple[Any, ...], str]] = [
    ("ij,jk->ik", (A, B), "dot_general"),
    ("ij,jk->ki", (A, B), "dot_general"),
    ("bqhd,bkhd->bhqk", (Q, K), "dot_general"),
    ("...ij,jk->...ik", (Q, C), "dot_general"),
    ("ij,jk,kl->il", (A, B, C), "dot_general dot_general"),
    ("ij->ji", (A,), "transpose"),
    ("ij->i", (A,), "reduce_sum"),
    ("ii->i", (np.ones((3, 3)),), "reshape slice"),
    ("i,i->i", (A[0], A[1]), "mul"),
    ("i,j->ij", (A[0], B[0]), "broadcast_in_dim broadcast_in_dim mul"),
]


@pytest.mark.parametrize(("text", "arrays", "names"), PROGRAMS, ids=[row[0] for row in PROGRAMS])
def test_the_program_is_small(text: str, arrays: tuple[Any, ...], names: str) -> None:
    jaxpr = fd.make_jaxpr(lambda *xs: fnp.einsum(text, *xs))(*arrays)
    assert [eqn.primitive.name for eqn in jaxpr.jaxpr.eqns] == names.split()


def test_paths() -> None:
    path, report = fnp.einsum_path("ij,jk,kl->il", A, B, C, optimize="greedy")
    assert len(path) == 2
    assert report.opt_cost < report.naive_cost
    found = fnp.einsum("ij,jk,kl->il", A, B, C, optimize=path)
    np.testing.assert_array_equal(found, A @ B @ C)


def test_preferred_element_type_is_that_of_every_product() -> None:
    arrays = [fnp.ones((2, 2), "bfloat16")] * 3
    jaxpr = fd.make_jaxpr(
        lambda *xs: fnp.einsum("ij,jk,kl->il", *xs, preferred_element_type="float32")
    )(*arrays)
    products = [eqn for eqn in jaxpr.jaxpr.eqns if eqn.primitive.name == "dot_general"]
    assert [eqn.outvars[0].aval.dtype for eqn in products] == [np.float32] * 2


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: fnp.einsum("ij,jk->ik", A),
        ArgumentError,
        "einsum: subscripts 'ij,jk->ik' are for 2 operands, got 1",
    ),
    (
        lambda: fnp.einsum("ij,jk->il", A, B),
        ArgumentError,
        "einsum: the output 'il' has a label that no operand has, 'l'; operands have 'ij', 'jk'",
    ),
    (
        lambda: fnp.einsum("ij->ii", A),
        ArgumentError,
        "einsum: the output 'ii' has a label twice",
    ),
    (
        lambda: fnp.einsum("i1->i", A),
        ArgumentError,
        "einsum: subscripts must be made of letters, '...', ',' and '->', got '1' in 'i1->i'",
    ),
    (
        lambda: fnp.einsum("ij,jk", A, C),
        ShapeError,
        "einsum: label 'j' has size 3 and size 4 (operand 1, f32[4,5]); sizes of one label must be "
        "equal, or 1",
    ),
    (
        lambda: fnp.einsum("i...->i", A),
        ArgumentError,
        "einsum: the output 'i' lacks the ... that operands have: 'i...'",
    ),
    (
        lambda: fnp.einsum("ij,jk,kl->il", A, B, C, optimize=[(0, 7), (0, 1)]),
        ArgumentError,
        "einsum: optimize has a step (0, 7), when 3 operands are left",
    ),
    (
        lambda: fnp.matvec(A, np.ones(4)),
        ShapeError,
        "matvec: the vectors have 4 elements, the matrices 3 places for them",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value) == message
