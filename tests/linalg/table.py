"""Every public function of linear algebra as programs of JAX's module or of this library's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.linalg.factors import positive

NDArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Program:
    """A function of a namespace (lax, numpy and scipy: modules called linalg) and the arrays.

    Its results do not depend on signs and phases of vectors. `grad` says whether it has
    derivatives, `jax_grad` whether it also has them in JAX.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[NDArray, ...]
    grad: bool = True
    jax_grad: bool = True


def _random(*shape: int) -> NDArray:
    return np.random.default_rng(len(shape) + sum(shape)).uniform(-1, 1, shape)


def _complex(*shape: int) -> NDArray:
    rng = np.random.default_rng(7)
    return rng.uniform(-1, 1, shape) + 1j * rng.uniform(-1, 1, shape)


A = _random(3, 3) + 2 * np.eye(3)
B = _random(3, 2)
BIG = _random(5, 5) + 2 * np.eye(5)
TALL, WIDE = _random(4, 3), _random(3, 4)
STACK = _random(2, 3, 3) + 2 * np.eye(3)
Z = _complex(3, 3) + 2 * np.eye(3)
SPD, HPD = positive(A), positive(Z)
V = _random(3)

PROGRAMS: list[Program] = []


def _add(
    module: str, name: str, function: Callable[..., Any], *args: NDArray, **flags: bool
) -> None:
    number = sum(p.name.startswith(f"{module}.{name}-") for p in PROGRAMS)
    PROGRAMS.append(Program(f"{module}.{name}-{number}", function, args, **flags))


def _adder(module: str) -> Callable[..., None]:
    """A function that adds calls of one function of a module."""

    def add(
        name: str,
        *args: NDArray,
        use: Callable[..., Any] = lambda x: x,
        grad: bool = True,
        jax_grad: bool = True,
        **options: Any,
    ) -> None:
        def function(m: Any, *xs: Any) -> Any:
            return use(getattr(getattr(m, module), name)(*xs, **options))

        _add(module, name, function, *args, grad=grad, jax_grad=jax_grad)

    return add


lax, np_, scipy = map(_adder, ("lax", "numpy", "scipy"))


def _projector(vectors: Any) -> Any:
    """What does not depend on the phases of vectors: the projector on the first."""
    first = vectors[..., :1]
    return first @ first.conj().mT


def hermitian(a: Any) -> Any:
    """The Hermitian part, so that it does not matter which triangle is read."""
    return (a + a.conj().mT) / 2


def _eigh(out: Any) -> Any:
    return _projector(out[0]), out[1]


def _svd(out: Any) -> Any:
    u, s, vh = out
    return u[..., :1] @ vh[..., :1, :], s


def _sorted(values: Any) -> Any:
    """Symmetric functions of eigenvalues, which need no order."""
    return values.sum(-1), (values * values).sum(-1)


for x in (SPD, HPD, np.stack([SPD, 2 * SPD])):
    lax("cholesky", x)
    np_("cholesky", x, upper=True)
    lax("eigh", x, use=_eigh)
    lax("eigh", x, use=_eigh, lower=False)
    np_("eigh", x, use=lambda out: (out.eigenvalues, _projector(out.eigenvectors)))
    np_("eigvalsh", x, UPLO="U")
    _add("scipy", "cholesky", lambda m, a: m.scipy.cholesky(hermitian(a), lower=True), x)
    _add("scipy", "eigh", lambda m, a: m.scipy.eigh(hermitian(a), eigvals_only=True), x)
lax("cholesky_update", np.triu(SPD), V, jax_grad=False)
lax("householder_product", TALL, V, grad=False)
lax("ormqr", TALL, V, _random(4, 2), grad=False)
for x in (A, Z, STACK, TALL, WIDE):
    lax("lu", x, use=lambda out: out[0])
    lax("qr", x, full_matrices=False)
    np_("qr", x)
    np_("qr", x, mode="r")
    lax("svd", x, full_matrices=False, use=_svd)
    lax("svd", x, compute_uv=False)
    np_("svd", x, full_matrices=False, use=lambda out: _svd((out.U, out.S, out.Vh)))
    np_("svdvals", x)
    np_("pinv", x)
    np_("norm", x)
    np_("matrix_norm", x)
    np_("matrix_norm", x, ord="nuc")
    np_("matrix_transpose", x)
    np_("diagonal", x, offset=1)
    np_("trace", x)
    np_("vecdot", x, x)
    np_("vector_norm", x, axis=-1, ord=3)
    np_("cond", x)
    np_("matrix_rank", x, grad=False)
    if x.ndim == 2:
        scipy("lu", x, use=lambda out: out[1:])
    scipy("lu_factor", x, use=lambda out: out[0])
    scipy("qr", x, mode="economic")
    scipy("svd", x, compute_uv=False)
lax("qr", A, pivoting=True, use=lambda out: out[:2])
np_("svd", SPD, hermitian=True, use=lambda out: _svd((out.U, out.S, out.Vh)))
np_("pinv", SPD, hermitian=True)
for x in (A, Z, STACK):
    np_("eigvals", x, use=_sorted)
    lax(
        "eig",
        x,
        use=lambda out: _sorted(out[0]),
        compute_left_eigenvectors=False,
        compute_right_eigenvectors=False,
    )
    np_("det", x)
    np_("slogdet", x)
    np_("inv", x)
    np_("solve", x, x)
    np_("matrix_power", x, n=3)
    np_("matrix_power", x, n=-2)
    np_("matmul", x, x)
    np_("norm", x, ord=1, axis=(-2, -1))
    np_("norm", x, ord=np.inf, axis=(-2, -1), keepdims=True)
    np_("norm", x, ord=2, axis=(-2, -1))
    np_("norm", x, ord=-2, axis=(-2, -1))
    scipy("det", x)
    scipy("inv", x)
    scipy("expm", x / 3)
    scipy("expm", 9 * x)
np_("eig", A, use=lambda out: _sorted(out[0]), grad=False)
np_("det", BIG)
np_("slogdet", BIG)
np_("det", _random(4, 3) @ _random(3, 4))
np_("solve", A, V)
np_("solve", A, B)
np_("solve", STACK, V)
np_("solve", STACK, B)
np_("solve", A, _random(2, 3, 2))
np_("lstsq", TALL, _random(4))
np_("lstsq", TALL, _random(4, 2))
np_("lstsq", WIDE, B, use=lambda out: (out[0], out[2], out[3]))
np_("cross", _random(2, 3), V)
np_("cross", _random(3, 2), _random(3, 2), axis=0)
np_("outer", V, _random(2))
np_("tensordot", TALL, WIDE, axes=([0, 1], [1, 0]))
np_("tensorinv", _random(2, 3, 6), ind=2)
np_("tensorsolve", _random(2, 3, 6), _random(2, 3))
np_("cond", A, p=1)
np_("vector_norm", V)
np_("vector_norm", V, ord=1)
np_("vector_norm", V, ord=np.inf)
np_("vector_norm", V, ord=0)
np_("norm", V, ord=-np.inf)
for options in (
    {"left_side": True, "lower": True},
    {"left_side": True, "transpose_a": True, "unit_diagonal": True},
    {"lower": True, "conjugate_a": True, "transpose_a": True},
    {"conjugate_a": True},
):
    for a in (A, Z):
        b = B if options.get("left_side") else B.T
        lax("triangular_solve", a, b.astype(a.dtype), **options)
        lax("triangular_solve", STACK, np.stack([b, b]), **options)
lax("tridiagonal_solve", V / 4, 2 + V, V[::-1] / 4, B)
lax(
    "symmetric_product",
    TALL,
    _random(4, 4),
    symmetrize_output=True,
    alpha=2.0,
    beta=0.5,
    jax_grad=False,
)
lax("hessenberg", A, grad=False)
lax("tridiagonal", SPD, grad=False)
lax("schur", A, grad=False)
lax("qdwh", TALL, use=lambda out: out[:2], grad=False)
scipy("block_diag", A, B, V)
scipy("toeplitz", V, _random(4))
scipy("toeplitz", Z[0])
scipy("solve", A, B)
_add("scipy", "solve", lambda m, a, b: m.scipy.solve(hermitian(a), b, assume_a="pos"), SPD, V)
scipy("sqrtm", SPD, grad=False)
scipy("sqrtm", A, grad=False)
scipy("schur", A, output="complex", use=lambda out: _sorted(out[0].diagonal()), grad=False)
scipy("hessenberg", BIG, calc_q=True, grad=False)
scipy("polar", TALL, method="svd")
scipy("polar", WIDE, method="svd", side="left")
scipy("expm_frechet", A, SPD)
for trans in (0, 1, 2):
    scipy("solve_triangular", A, B, trans=trans)
    scipy("solve_triangular", Z, Z[0], trans=trans, lower=True, unit_diagonal=True)


def _cho_solve(m: Any, a: Any, b: Any) -> Any:
    return m.scipy.cho_solve(m.scipy.cho_factor(hermitian(a)), b)


def _lu_solve(trans: int) -> Callable[..., Any]:
    return lambda m, a, b: m.scipy.lu_solve(m.scipy.lu_factor(a), b, trans)


def _multi_dot(m: Any, *xs: Any) -> Any:
    return m.numpy.multi_dot(xs)


_add("scipy", "cho_solve", _cho_solve, SPD, B)
_add("scipy", "cho_factor", lambda m, a: m.scipy.cho_factor(hermitian(a), lower=True)[0], HPD)
for trans in (0, 1, 2):
    _add("scipy", "lu_solve", _lu_solve(trans), A, B)
    _add("scipy", "lu_solve", _lu_solve(trans), Z, Z[0])
_add("numpy", "multi_dot", _multi_dot, V, TALL.T, TALL, B)
_add(
    "lax",
    "lu_pivots_to_permutation",
    lambda m, p: m.lax.lu_pivots_to_permutation(p, 4),
    np.array([2, 2, 3], np.int32),
    grad=False,
)
