"""Calls of funcdl.numpy: those that the tests make elsewhere, and the rest as text."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tests.differential.calls import Call, Sizes, calls, draw, each
from tests.numpy import cases, cases_data, cases_structure
from tests.numpy.cases import Case

from funcdl import numpy as namespace


def of_case(case: Case) -> Call:
    """A call of the tables that NumPy is compared with."""
    # An operator is tested as the method that it stands for.
    name = re.match(r"\w*", case.name)[0]  # type: ignore[index]

    def operands(kind: str, sizes: Sizes) -> list[Any]:
        rng = np.random.default_rng(zlib.crc32(case.name.encode()))
        return [draw(rng, shape, kind, *case.domain) for shape in case.shapes]

    return Call(
        name if name in namespace.__all__ else "Array",
        case.name,
        _applied(case.f),
        operands,
        case.differentiable,
        case.name not in CONCRETE,
    )


def _applied(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda library, *xs: f(library["m"], *xs)


# Those whose results have a size that depends on values.
CONCRETE = {"compress", "extract", "bincount(weights)", "choose"}

CALLS = [
    *map(of_case, (*cases.CASES, *cases_data.CASES, *cases_structure.CASES)),
    *each("add subtract multiply divide power maximum arctan2", "m.{}(f[N, K], f[K])"),
    *each("add multiply divide power true_divide", "m.{}(pos[N, 1], 2)"),
    *each("sum prod mean var std cumsum argsort", "m.{}(f[N, P], axis=1)"),
    *each("sin exp log sqrt floor ravel transpose", "m.{}(pos[N, K])"),
    *each("matmul dot", "m.{}(f[N, K], f[K, L])"),
    *each("acos asin atanh", "m.{}(unit[N, K])"),
    *each("asinh atan around copy matrix_transpose", "m.{}(f[N, K])"),
    *each("shape size ndim iscomplexobj isrealobj iscomplex ones_like", "m.{}(f[N, K])"),
    *each("zeros_like array asarray sort lexsort", "m.{}(f[N, K])"),
    *each("amax amin", "m.{}(f[N, P], axis=1)"),
    *each("atan2 pow", "m.{}(pos[N, K], pos[K])"),
    *each("divmod array_equiv", "m.{}(f[N, K], pos[N, K])"),
    *each("bitwise_and bitwise_or bitwise_xor", "m.{}(i[N, K], i[K])"),
    *each("bitwise_left_shift left_shift bitwise_right_shift right_shift", "m.{}(i[N], nat[N])"),
    *each("bitwise_not bitwise_invert invert", "m.{}(i[N, K])"),
    *each("unique unique_all unique_counts unique_inverse unique_values", "m.{}(nat[6], size=4)"),
    *each("nonzero flatnonzero argwhere", "m.{}(nat[2, 3], size=5, fill_value=7)"),
    *each("intersect1d union1d setdiff1d setxor1d", "m.{}(nat[4], i[5], size=6, fill_value=-9)"),
    *each("bartlett blackman hamming hanning", "m.{}(5)"),
    *each("zeros ones", "m.{}((2, 3))"),
    *each("tril_indices triu_indices diag_indices", "m.{}(3)"),
    *each("tril_indices_from triu_indices_from diag_indices_from", "m.{}(f[3, 3])"),
    *each("isscalar iterable", "m.{}(np.float32(1))"),
    *calls(
        [
            "m.acosh(between(1.1, 3)[N, K])",
            "m.arange(2, 9, 3)",
            "m.argpartition(f[6], 2)[2]",
            "m.argsort(f[N, P], descending=True)",
            "m.argsort(nat[4, 6], axis=0, stable=True)",
            "m.sort(f[N, P], axis=0, descending=True)",
            "m.array([[1, 2.5], [True, 3]])",
            "m.asarray(f[N], dtype='float16')",
            "m.astype(f[N], 'int32')",
            "m.broadcast_shapes((3, 1), (2,))",
            "m.can_cast('int32', 'float32')",
            "m.concat([f[N, K], f[N, L]], axis=1)",
            "m.einsum_path('ij,jk,kl->il', f[2, 3], f[3, 4], f[4, 5])[0]",
            "m.empty((0, 3))",
            "m.empty_like(f[0, 2])",
            "m.eye(3, 4, k=1)",
            "m.identity(3)",
            "m.tri(3, 4, 1)",
            "m.fill_diagonal(f[3, 3], 5.0, inplace=False)",
            "m.fill_diagonal(f[5, 2], f[2], wrap=True, inplace=False)",
            "m.finfo('bfloat16').eps",
            "m.iinfo('int16').max",
            "m.frombuffer(np.arange(3, dtype='f4').tobytes(), np.float32)",
            "m.fromfunction(lambda i, j: i * 3 + j, (2, 3))",
            "m.fromstring('1 2 3', sep=' ')",
            "m.full((2, 2), 7)",
            "m.geomspace(pos[N], pos[()], 5)",
            "m.logspace(f[N], f[()], 4, base=2.0)",
            "m.indices((2, 3))",
            "m.ix_(nat[2], i[3])",
            "m.indices((2, 3), sparse=True)",
            "m.isdtype('int32', 'integral')",
            "m.issubdtype('float32', m.floating)",
            "m.kaiser(5, 14.0)",
            "m.place(f[4], np.array([1, 0, 1, 1], bool), f[2], inplace=False)",
            "m.permute_dims(f[N, K], (1, 0))",
            "m.promote_types('int32', 'float16')",
            "m.put(f[6], nat[2], f[2], inplace=False)",
            "m.put(f[6], np.array([7, -8]), f[2], 'clip', inplace=False)",
            "m.put_along_axis(f[3, 4], np.array([[0], [2], [1]]), 9.0, 1, inplace=False)",
            "m.ravel_multi_index((nat[N], nat[N]), (3, 4), mode='wrap')",
            "m.ravel_multi_index((nat[N], nat[N]), (3, 3), mode='clip', order='F')",
            "m.unravel_index(nat[N], (2, 2))",
            "m.result_type(f[N], 3, 'int8')",
            "m.unstack(f[P, 2])",
            "m.lexsort((nat[6], nat[6]))",
            "m.sum(b[N, K], axis=0)",
            "m.vectorize(lambda x, y: x * y.sum(), signature='(),(k)->()')(f[P], f[Q, 1, 3])",
            "m.where(b[N, 1], f[N, K], 2.0)",
            "m.clip(i[N], 0, 2.5)",
            "m.power(i[N], 2)",
            "m.mean(i[P, K])",
        ]
    ),
    *calls(
        [
            "jnp.sort(m.roots(f[4]))",
            "m.mask_indices(3, m.triu)",
            "m.array_repr(i[2, 3])",
            "m.array_str(i[2, 3])",
        ],
        traced=False,
    ),
    *calls(
        [
            "m.nonzero(nat[3, 4])",
            "m.argwhere(nat[3, 4])",
            "m.flatnonzero(nat[6])",
            "m.unique(nat[8], return_index=True, return_inverse=True, return_counts=True)",
            "m.unique_all(nat[8])",
            "m.setdiff1d(i[6], nat[3])",
            "m.trim_zeros(np.array([0, 0, 1, 0, 2, 0]))",
            "m.from_dlpack(jnp.arange(3.0))",
            "m.where(nat[5])",
        ],
        traced=False,
    ),
]

REASONS: Mapping[str, str] = {
    "get_printoptions set_printoptions printoptions": "a state of NumPy's",
    "fromiter": "JAX has the name only; tests/numpy/test_input_output.py",
    "save savez load fromfile": "files; tests/numpy/test_input_output.py",
}
