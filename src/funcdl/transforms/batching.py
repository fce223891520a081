"""Batching: interpret each primitive on a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from funcdl.config import config
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import Axis, name_of, uses_axis
from funcdl.core.jaxpr import ClosedJaxpr, eval_jaxpr
from funcdl.core.leaks import check_leaks
from funcdl.core.primitive import Primitive
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.trace import Trace, Tracer, context, current_trace, new_trace, where_made
from funcdl.errors import MissingRuleError
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.shape import move_to_front, transpose
from funcdl.transforms.weak_cache import cached_on_first


class BatchTracer(Tracer):
    """One element of a batch: the whole batch, and the dimension it lies along."""

    __slots__ = ("_aval", "dim", "value")

    def __init__(self, trace: BatchTrace, value: Any, dim: int) -> None:
        self._trace = trace
        self.value = value
        self.dim = dim
        self.source = where_made(value)
        aval: ShapedArray = value.aval
        self._aval = aval.update(shape=aval.shape[:dim] + aval.shape[dim + 1 :])

    @property
    def aval(self) -> ShapedArray:
        return self._aval

    def inner(self) -> Any:
        return self.value


class BatchTrace(Trace):
    """Applies each primitive's batching rule; rules bind under the parent.

    `axis_size` is an `Axis` where the mapped axis has a name. Then what refers to that name is
    batched even if none of its operands is.
    """

    __slots__ = ("axis", "axis_size")

    def __init__(self, parent: Trace, axis_size: int, name: str = "vmap") -> None:
        super().__init__(name, parent)
        self.axis_size = axis_size
        self.axis = axis_size if isinstance(axis_size, Axis) else None

    def split(self, x: Any) -> tuple[Any, int | None]:
        """The whole batch and its dimension; values from outside are not batched."""
        if type(x) is BatchTracer and x._trace is self:
            return x.value, x.dim
        return x, None

    def join(self, value: Any, dim: int | None) -> Any:
        return value if dim is None else BatchTracer(self, value, dim)

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        assert self.parent is not None
        if not any(type(x) is BatchTracer and x._trace is self for x in args) and (
            self.axis is None or not uses_axis(primitive, params, self.axis.name)
        ):
            with current_trace(self.parent):
                return primitive.bind(*args, **params)
        pairs = [self.split(x) for x in args]
        values, dims = tuple(x for x, _ in pairs), tuple(dim for _, dim in pairs)
        if primitive.batch is None:
            raise MissingRuleError(f"primitive {primitive.name} has no batching rule for vmap")
        with current_trace(self.parent):
            out, dim = primitive.batch(self.axis_size, values, dims, **params)
        if primitive.multiple_results:
            return [self.join(x, d) for x, d in zip(out, dim, strict=True)]
        return self.join(out, dim)


def batch_flat(
    f: Callable[..., Sequence[Any]],
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    name: str = "vmap",
) -> tuple[list[Any], list[int | None]]:
    """Outputs and their batch dimensions (None: the same for the whole batch)."""
    trace = BatchTrace(context.trace, axis_size, name)
    with new_trace(trace):
        inputs = [trace.join(x, d) for x, d in zip(args, dims, strict=True)]
        pairs = [trace.split(out) for out in f(*inputs)]
    if config.check_tracer_leaks:
        del inputs
        check_leaks(trace)
    return [x for x, _ in pairs], [d for _, d in pairs]


def move_dim(x: Any, source: int, target: int) -> Any:
    """Move one dimension to another place."""
    if source == target:
        return x
    order = [d for d in range(x.ndim) if d != source]
    order.insert(target, source)
    return transpose(x, permutation=tuple(order))


def place_batch(x: Any, dim: int | None, target: int, axis_size: int) -> Any:
    """The whole batch with its dimension at `target`, repeated if it was not batched."""
    if dim is None:
        return move_dim(broadcast_batch(x, axis_size), 0, target)
    return move_dim(x, dim, target)


class AxisTrace(Trace):
    """Brings a named axis into scope without mapping it, for programs that are only looked at."""

    __slots__ = ("axis",)

    def __init__(self, parent: Trace, axis: Axis) -> None:
        super().__init__("axis_env", parent)
        self.axis = axis

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        assert self.parent is not None
        with current_trace(self.parent):
            return primitive.bind(*args, **params)


def batch_jaxpr(
    program: ClosedJaxpr,
    axis_size: int,
    batched: tuple[bool, ...],
    batched_outs: tuple[bool, ...] = (),
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The program on a batch: inputs flagged `batched`, and outputs flagged by the second result,
    have the batch as their first dimension. Outputs flagged `batched_outs` have it in any case."""
    # Sizes are equal as numbers, whatever their names, so the name is an argument of its own.
    return _batch_jaxpr(program, axis_size, name_of(axis_size), batched, batched_outs)


@cached_on_first
def _batch_jaxpr(
    program: ClosedJaxpr,
    axis_size: int,
    axis_name: Hashable,
    batched: tuple[bool, ...],
    batched_outs: tuple[bool, ...],
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    flags: list[bool] = []

    def run(*args: Any) -> list[Any]:
        outs, dims = batch_flat(
            lambda *xs: eval_jaxpr(program.jaxpr, program.consts, xs),
            axis_size,
            args,
            [0 if flag else None for flag in batched],
        )
        for i, flag in enumerate(batched_outs):
            if flag and dims[i] is None:
                outs[i], dims[i] = broadcast_batch(outs[i], axis_size), 0
        flags[:] = [dim is not None for dim in dims]
        return [move_to_front(out, dim) for out, dim in zip(outs, dims, strict=True)]

    avals = [
        aval.update(shape=(axis_size, *aval.shape)) if flag else aval
        for aval, flag in zip(program.in_avals, batched, strict=True)
    ]
    jaxpr, consts = trace_to_jaxpr(run, avals, name="vmap")
    return ClosedJaxpr(jaxpr, consts), tuple(flags)
