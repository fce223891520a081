"""Identities that say something about a value: when it may be computed, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.errors import LeafTypeError
from funcdl.ops import registry
from funcdl.ops.lowering import View
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import elementwise_batch

optimization_barrier = Primitive("optimization_barrier")
"""``optimization_barrier(x, *after)``: `x`, to the compiler a new value that needs all of `after`.

What is computed from it is neither shared with what was computed from `x` before, nor computed
before `after` is there. Derivatives and batches pass through `x` alone.
"""

checkpoint_name_primitive = Primitive("checkpoint_name")


def checkpoint_name(x: Any, name: str) -> Any:
    """`x`, under a name that a policy of `checkpoint` can refer to.

    See `jax.ad_checkpoint.checkpoint_name`, and `checkpoint_policies.save_only_these_names`.

    Args:
      x: an array.
      name: any string; several values may have the same.

    Raises:
      LeafTypeError: `x` is no array.
    """
    try:
        x = as_array(x)
    except LeafTypeError as error:
        raise LeafTypeError(f"checkpoint_name: {error.reason}") from None
    return checkpoint_name_primitive.bind(x, name=name)


def _barrier_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    x, *after = primals
    out = optimization_barrier.bind(x, *after)
    t = tangents[0]
    return out, t if is_zero(t) else optimization_barrier.bind(t, *after)


def _barrier_transpose(ct: Any, x: Any, *after: Any) -> list[Any]:
    return [ct if is_linear(x) else None, *[None] * len(after)]


def _barrier_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None]
) -> tuple[Any, int | None]:
    return optimization_barrier.bind(*args), dims[0]


def _barrier_partial_eval(trace: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
    # What is known already need not wait for what is not.
    if trace.owns(args[0]):
        return trace.record(optimization_barrier, args, params)
    return args[0]


optimization_barrier.impl = lambda x, *after: x
optimization_barrier.shape = lambda x, *after: ShapedArray(x.shape, x.dtype)
optimization_barrier.weak = lambda weak, **params: weak[0]
optimization_barrier.jvp = _barrier_jvp
optimization_barrier.transpose = _barrier_transpose
optimization_barrier.batch = _barrier_batch
optimization_barrier.partial_eval = _barrier_partial_eval
optimization_barrier.lower = View(lambda reader, index, params: reader.read(0, index), alias=True)


def _name_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, name: str
) -> tuple[Any, Any | Zero]:
    (t,) = tangents
    return checkpoint_name(primals[0], name), t if is_zero(t) else checkpoint_name(t, name)


checkpoint_name_primitive.impl = lambda x, *, name: x
checkpoint_name_primitive.shape = lambda x, *, name: ShapedArray(x.shape, x.dtype)
checkpoint_name_primitive.jvp = _name_jvp
checkpoint_name_primitive.transpose = lambda ct, x, *, name: [ct]
checkpoint_name_primitive.batch = elementwise_batch(checkpoint_name_primitive)
checkpoint_name_primitive.lower = View(
    lambda reader, index, params: reader.read(0, index), alias=True
)


def _barrier_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(), (3, 2), (0,)]:
        x = random_array(rng, shape, dtype)
        after = random_array(rng, (2,), np.dtype(np.float32))
        yield Sample((x,), grad=(0,))
        yield Sample((x, after, random_array(rng, (), dtype)), grad=(0,))


def _name_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(), (3, 2), (0,)]:
        yield Sample((random_array(rng, shape, dtype),), {"name": "hidden"}, grad=(0,))


registry.add(Op(optimization_barrier, registry.ALL, _barrier_samples))
registry.add(Op(checkpoint_name_primitive, registry.ALL, _name_samples))
