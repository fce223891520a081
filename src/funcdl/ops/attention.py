"""Attention without the matrix of weights in memory, its tangent and its gradient.

`attention` takes query, key and value and, as its parameter `extra_names` lists them, some of:

* ``bias``, added to the logits, and ``mask``, bool, False where a key is hidden: [B, N, T, S], any
  of them 1. A bias has the dtype that is computed in: float32 for half types.
* ``query_lengths`` and ``key_lengths``: int32[B], how many positions of a sequence count.
* ``dropout_keys``: uint32[B, N, 2], a key of random bits for each head, by which the share
  `dropout_rate` of the weights become 0 and the others are scaled up. They are there if the rate is
  above 0. Which weights is a function of the key and the weight's row and column alone
  (`attention_formula.dropout`), so that the gradient need not be told.

`before` and `after` say how many positions before and after its own a query sees keys at, None for
all. It returns the result and two statistics [B, N, T], the largest logit and the total of the
weights, before any is dropped, relative to it; ``largest + log(total)`` is the logarithm of the
softmax's denominator. They are two because their sum forgets the total where all keys are hidden.
They count as constants: no derivative flows through them.

The derivatives of `attention` are primitives as well, so that back ends can have kernels for them:
`attention_gradient` has, and `attention_tangent` is there to be transposed to it. More in
docs/attention.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive, never_weak
from funcdl.core.reference import run_reference
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero as Zero
from funcdl.core.symbolic_zero import is_linear, is_zero
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import attention_formula as formula
from funcdl.ops import registry
from funcdl.ops.lowering import Loop, compute_dtype
from funcdl.ops.registry import FLOATS, Op, Sample, random_array
from funcdl.ops.shape import broadcast_in_dim, instantiate, move_to_front, reshape

NDArray = np.ndarray[Any, Any]

attention = Primitive("attention", multiple_results=True)
attention_tangent = Primitive("attention_tangent", multiple_results=True)
attention_gradient = Primitive("attention_gradient", multiple_results=True)

_FORMULAS: dict[str, Callable[..., list[Any]]] = {
    "attention": formula.result,
    "attention_tangent": formula.tangent,
    "attention_gradient": formula.gradient,
}


def composition(primitive: Primitive) -> Callable[..., list[Any]]:
    """One of the three primitives as a function that applies others."""
    return _FORMULAS[primitive.name]


def composed(
    primitive: Primitive, avals: Sequence[ShapedArray], params: dict[str, Any]
) -> ClosedJaxpr:
    """An application as a program of other primitives."""
    return _composed(primitive, tuple(avals), tuple(params.items()))


@lru_cache(maxsize=256)
def _composed(
    primitive: Primitive, avals: tuple[ShapedArray, ...], params: tuple[tuple[str, Any], ...]
) -> ClosedJaxpr:
    body = composition(primitive)
    jaxpr, consts = trace_to_jaxpr(
        lambda *xs: body(*xs, **dict(params)), avals, name=primitive.name
    )
    return ClosedJaxpr(jaxpr, consts)


def _define(primitive: Primitive, own_operands: int) -> None:
    """Set the rules that all three share; `own_operands` follow those of `attention`."""

    def impl(*args: NDArray, **params: Any) -> list[NDArray]:
        avals = [ShapedArray(x.shape, x.dtype) for x in args]
        return run_reference(composed(primitive, avals, params), args)

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[list[Any], list[int]]:
        count = int(axis_size)
        names = (*"qkv", *params["extra_names"])
        stretched = [i for i, name in enumerate(names) if name in ("bias", "mask")]
        size = args[0].shape[0] if dims[0] is None else move_to_front(args[0], dims[0]).shape[1]
        merged = [
            _merge(x, dim, count, size, stretch=number in stretched)
            for number, (x, dim) in enumerate(zip(args, dims, strict=True))
        ]
        outs = primitive.bind(*merged, **params)
        return [reshape(x, new_sizes=(count, size, *x.shape[1:])) for x in outs], [0] * len(outs)

    primitive.impl = impl
    primitive.shape = _shape_rule(primitive.name, own_operands)
    primitive.weak = never_weak
    primitive.batch = batch


def _merge(x: Any, dim: int | None, count: int, size: int, *, stretch: bool) -> Any:
    """An operand with the mapped dimension as a part of its batch dimension."""
    own = x.shape if dim is None else x.shape[:dim] + x.shape[dim + 1 :]
    if stretch and dim is None and own[0] == 1:
        return x  # one for the whole batch
    if dim is None:
        x = broadcast_in_dim(
            x, shape=(count, *own), broadcast_dimensions=tuple(range(1, 1 + len(own)))
        )
    else:
        x = move_to_front(x, dim)
    if own[0] != size:
        dimensions = tuple(range(1 + len(own)))
        x = broadcast_in_dim(x, shape=(count, size, *own[1:]), broadcast_dimensions=dimensions)
    return reshape(x, new_sizes=(count * size, *own[1:]))


def _shape_rule(name: str, own_operands: int) -> Callable[..., list[ShapedArray]]:
    def shape(
        *avals: ShapedArray, extra_names: tuple[str, ...], dropout_rate: float, **_: Any
    ) -> list[ShapedArray]:
        query, key, value = avals[:3]
        wanted = 3 + len(extra_names) + own_operands
        if len(avals) != wanted:
            raise ShapeError(f"{name} requires {wanted} operands, got {len(avals)}")
        if query.ndim != 4 or key.shape != value.shape or key.ndim != 4:
            raise ShapeError(
                f"{name} requires a query [B, T, N, H] and a key and a value [B, S, K, H], got "
                f"{query}, {key} and {value}"
            )
        if (query.shape[0], query.shape[3]) != (key.shape[0], key.shape[3]) or (
            not key.shape[2] or query.shape[2] % key.shape[2]
        ):
            raise ShapeError(
                f"{name} requires equal batch and size of query and key, and heads of the query "
                f"that are a multiple of the key's, got {query} and {key}"
            )
        if key.dtype != query.dtype or value.dtype != query.dtype:
            raise DtypeError(
                f"{name} requires operands of equal dtype, got {query}, {key} and {value}"
            )
        if not key.shape[1]:
            raise ShapeError(f"{name} requires at least one key, got {key}")
        if not 0 <= dropout_rate < 1 or (dropout_rate > 0) != ("dropout_keys" in extra_names):
            raise ArgumentError(
                f"{name} requires a dropout_rate in [0, 1), and dropout_keys if it is above 0, got "
                f"{dropout_rate} and {', '.join(extra_names) or 'no extras'}"
            )
        for extra, aval in zip(extra_names, avals[3:], strict=False):
            _check_extra(name, extra, aval, query, key)
        if name == "attention_gradient":
            return [ShapedArray(x.shape, x.dtype) for x in (query, key, value)]
        out = ShapedArray(query.shape, query.dtype)
        if name == "attention_tangent":
            return [out]
        batch, length, heads = query.shape[:3]
        statistic = ShapedArray((batch, heads, length), compute_dtype(query.dtype))
        return [out, statistic, statistic]

    return shape


def _check_extra(
    name: str, extra: str, aval: ShapedArray, query: ShapedArray, key: ShapedArray
) -> None:
    batch, length, heads, _ = query.shape
    grid: Shape
    if extra in ("bias", "mask"):
        dtype = np.dtype(bool) if extra == "mask" else compute_dtype(query.dtype)
        grid = (batch, heads, length, key.shape[1])
        fits = aval.ndim == 4 and all(
            own in (1, full) for own, full in zip(aval.shape, grid, strict=True)
        )
    elif extra == "dropout_keys":
        dtype, grid = np.dtype(np.uint32), (batch, heads, 2)
        fits = aval.shape == grid
    else:
        dtype, grid = np.dtype(np.int32), (batch,)
        fits = aval.shape == grid
    if not fits or aval.dtype != dtype:
        wanted = ShapedArray(grid, dtype)
        raise ShapeError(f"{name} requires a {extra} of type {wanted}, got {aval}")


def _tangent_transpose(cts: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
    (ct,) = cts
    known, linear = args[:-3], args[-3:]
    found: list[Any] = [Zero(x.aval.to_tangent()) for x in linear]
    if not is_zero(ct):
        found = attention_gradient.bind(*known, instantiate(ct), **params)
    return [None] * len(known) + [
        ct if is_linear(x) else None for ct, x in zip(found, linear, strict=True)
    ]


_define(attention, 0)
_define(attention_tangent, 6)
_define(attention_gradient, 4)
attention_tangent.transpose = _tangent_transpose
# Functions of the back end's library that work on whole arrays: kept apart from kernels, as loops.
for _primitive in (attention, attention_tangent, attention_gradient):
    _primitive.lower = Loop()


_SHAPES = (
    # batch, queries, keys, heads, groups, size
    (1, 5, 7, 2, 1, 3),
    (2, 3, 3, 2, 2, 4),
    (1, 1, 1, 1, 1, 1),
)


def _sample_operands(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for batch, length, positions, heads, groups, size in _SHAPES:
        query = random_array(rng, (batch, length, heads, size), dtype)
        key, value = (random_array(rng, (batch, positions, groups, size), dtype) for _ in "kv")
        grid = (batch, heads, length, positions)
        extras = {
            "bias": random_array(rng, (1, *grid[1:]), compute_dtype(dtype)),
            "mask": rng.random((batch, 1, *grid[2:])) < 0.7,
            "query_lengths": np.full(batch, (length + 1) // 2, np.int32),
            "key_lengths": np.full(batch, (positions + 1) // 2, np.int32),
            "dropout_keys": rng.integers(0, 2**32, (batch, heads, 2), np.uint32),
        }
        # Biases have another dtype than half types, and tests widen operands of one dtype only.
        if compute_dtype(dtype) != dtype:
            del extras["bias"]
        every = tuple(extras)
        for names, before, after, rate in [
            ((), None, None, 0.0),
            ((), 2, 0, 0.0),
            (every[:-1], 1, 1, 0.0),
            (every, 1, 1, 0.25),
        ]:
            params = {"scale": 0.5, "before": before, "after": after, "extra_names": names}
            params["dropout_rate"] = rate
            yield Sample((query, key, value, *(extras[name] for name in names)), params)


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    yield from _sample_operands(rng, dtype)


def _derivative_samples(
    tangents: bool,
) -> Callable[[np.random.Generator, np.dtype[Any]], Iterator[Sample]]:
    def make(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
        for sample in _sample_operands(rng, dtype):
            assert attention.impl is not None
            outs = attention.impl(*sample.args, **sample.params)
            like = sample.args[:3] if tangents else sample.args[:1]
            own = tuple(random_array(rng, x.shape, dtype) for x in like)
            yield Sample((*sample.args, *outs, *own), sample.params)

    return make


_GPU = {"triton": "GPU programs have its composition"}
registry.add(Op(attention, FLOATS, _samples))
registry.add(Op(attention_tangent, FLOATS, _derivative_samples(True), _GPU))
registry.add(Op(attention_gradient, FLOATS, _derivative_samples(False)))
