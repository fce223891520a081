"""The collectives as primitives: eager, jitted, differentiated and batched like all others.

All have ordered effects, so that a program makes its calls in the order of its text, in every
process alike; compiled programs run them as steps of the host. What is linear has its transpose
among them: derivatives are those of the sum of all processes' results, as under a `vmap` with a
named axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.effects import Effect
from funcdl.core.primitive import Primitive, never_weak
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.distributed import collectives
from funcdl.distributed.group import ProcessGroup, Ticket
from funcdl.errors import DistributedError, NotDifferentiableError, ShapeError
from funcdl.ops.shape import instantiate, move_to_front, transpose

NDArray = np.ndarray[Any, Any]
Avals = tuple[ShapedArray, ...]


def _primitive(name: str) -> Primitive:
    primitive = Primitive(name, multiple_results=True)
    primitive.effect = lambda params: Effect.ORDERED
    primitive.weak = never_weak
    return primitive


all_reduce = _primitive("all_reduce")
all_gather = _primitive("all_gather")
reduce_scatter = _primitive("reduce_scatter")
broadcast = _primitive("broadcast")
reduce = _primitive("reduce")
all_reduce_start = _primitive("all_reduce_start")
all_reduce_done = _primitive("all_reduce_done")
send = _primitive("send")
recv = _primitive("recv")
barrier = _primitive("barrier")


def _what(name: str, xs: Sequence[Any], paths: Sequence[str] | None = None) -> str:
    """A call and its arguments, as messages show them."""
    types = [str(ShapedArray(x.shape, x.dtype)) for x in xs]
    if paths is not None and len(paths) == len(types):
        types = [
            f"{path}: {kind}" if path else kind for path, kind in zip(paths, types, strict=True)
        ]
    return f"{name} of {', '.join(types) or 'nothing'}"


def _plain(xs: Sequence[ShapedArray]) -> list[ShapedArray]:
    return [x.strengthen() for x in xs]


# What they compute


def _all_reduce_impl(*xs: NDArray, group: ProcessGroup, op: str, paths: Any) -> list[NDArray]:
    return group.run(
        _what(f"all_reduce({op})", xs, paths), lambda call: collectives.all_reduce(call, xs, op)
    )


def _all_gather_impl(*xs: NDArray, group: ProcessGroup, paths: Any) -> list[NDArray]:
    return group.run(_what("all_gather", xs, paths), lambda call: collectives.all_gather(call, xs))


def _reduce_scatter_impl(*xs: NDArray, group: ProcessGroup, paths: Any) -> list[NDArray]:
    return group.run(
        _what("reduce_scatter", xs, paths),
        lambda call: collectives.reduce_scatter(call, xs, "sum"),
    )


def _broadcast_impl(*xs: NDArray, group: ProcessGroup, root: int, paths: Any) -> list[NDArray]:
    return group.run(
        _what(f"broadcast(root={root})", xs, paths),
        lambda call: collectives.broadcast(call, xs, root),
    )


def _reduce_impl(*xs: NDArray, group: ProcessGroup, root: int, paths: Any) -> list[NDArray]:
    return group.run(
        _what(f"reduce(root={root})", xs, paths), lambda call: collectives.reduce(call, xs, root)
    )


def _start_impl(*xs: NDArray, group: ProcessGroup, op: str, paths: Any) -> list[NDArray]:
    # Copies: the program goes on, and uses the memory of its values again.
    kept = [np.array(x, order="C") for x in xs]
    ticket = group.start(
        _what(f"all_reduce({op})", xs, paths), lambda call: collectives.all_reduce(call, kept, op)
    )
    return [np.asarray(group.keep(ticket), np.int32)]


def _done_impl(number: NDArray, *, group: ProcessGroup, out_avals: Avals) -> list[NDArray]:
    ticket: Ticket = group.claim(int(number))
    return ticket.result()


def _send_impl(*xs: NDArray, group: ProcessGroup, rank: int, tag: int, paths: Any) -> list[NDArray]:
    what = _what(f"send(dest={rank})", xs, paths)
    group.flush([group.post(xs, rank, f"p{tag}", what)], what)
    return []


def _recv_impl(
    *, group: ProcessGroup, rank: int, tag: int, out_avals: Avals, paths: Any
) -> list[NDArray]:
    what = _what(f"recv(source={rank})", out_avals, paths)
    _, found = group.take([rank], f"p{tag}", what)
    if [(x.shape, x.dtype) for x in found] != [(a.shape, a.dtype) for a in out_avals]:
        raise DistributedError(
            f"{what}, got {_what('', found)[4:]}: process {rank} sent other arrays than `like` says"
        )
    return found


def _barrier_impl(*, group: ProcessGroup) -> list[NDArray]:
    return group.run("barrier", collectives.barrier)


# What types they have


def _same(*avals: ShapedArray, **_: Any) -> list[ShapedArray]:
    return _plain(avals)


def _with_members(*avals: ShapedArray, group: ProcessGroup, **_: Any) -> list[ShapedArray]:
    return [ShapedArray((group.size, *aval.shape), aval.dtype) for aval in avals]


def _without_members(*avals: ShapedArray, group: ProcessGroup, **_: Any) -> list[ShapedArray]:
    check_members(avals, group.size)
    return [ShapedArray(aval.shape[1:], aval.dtype) for aval in avals]


def check_members(avals: Sequence[ShapedArray], size: int) -> None:
    """Raise `ShapeError` unless first dimensions have an element for each process."""
    for aval in avals:
        if not aval.shape or aval.shape[0] != size:
            raise ShapeError(
                "reduce_scatter requires a first dimension with an element for each of the "
                f"{size} processes, got {aval}"
            )


def _declared(*avals: ShapedArray, out_avals: Avals, **_: Any) -> list[ShapedArray]:
    return list(out_avals)


def _nothing(*avals: ShapedArray, **_: Any) -> list[ShapedArray]:
    return []


def _ticket_type(*avals: ShapedArray, **_: Any) -> list[ShapedArray]:
    return [ShapedArray((), np.dtype(np.int32))]


# Derivatives


def _linear(primitive: Primitive, is_linear: Callable[..., bool] = lambda **_: True) -> None:
    """The jvp rule of what is linear in all its operands, each of which has its own result."""

    def jvp(
        primals: Sequence[Any], tangents: Sequence[Any], **params: Any
    ) -> tuple[list[Any], list[Any]]:
        outs = primitive.bind(*primals, **params)
        moving = [i for i, t in enumerate(tangents) if not is_zero(t)]
        out_tangents = [Zero(out.aval.to_tangent()) for out in outs]
        if moving and not is_linear(**params):
            raise NotDifferentiableError(
                f"{primitive.name}({params['op']}) has no derivative; sums and means have. Pass "
                "lax.stop_gradient of its argument, or differentiate what it is applied to"
            )
        if moving:
            params["paths"] = None
            found = primitive.bind(*(tangents[i] for i in moving), **params)
            for i, tangent in zip(moving, found, strict=True):
                out_tangents[i] = tangent
        return outs, out_tangents

    primitive.jvp = jvp


def _transposed(primitive: Primitive, backward: Callable[..., Sequence[Any]]) -> None:
    def rule(cts: Sequence[Any], *xs: Any, **params: Any) -> list[Any]:
        params["paths"] = None
        moving = [i for i, ct in enumerate(cts) if not is_zero(ct)]
        found: list[Any] = [None] * len(xs)
        if moving:
            for i, ct in zip(
                moving, backward([instantiate(cts[i]) for i in moving], **params), strict=True
            ):
                found[i] = ct
        return found

    primitive.transpose = rule


# Rules never ask which process they run in: programs of derivatives must be the same everywhere.


def _broadcast_back(cts: Sequence[Any], **params: Any) -> list[Any]:
    return list(reduce.bind(*cts, **params))


def _root_back(cts: Sequence[Any], **params: Any) -> list[Any]:
    return list(broadcast.bind(*cts, **params))


def _gather_back(cts: Sequence[Any], **params: Any) -> list[Any]:
    return list(reduce_scatter.bind(*cts, **params))


def _scatter_back(cts: Sequence[Any], **params: Any) -> list[Any]:
    return list(all_gather.bind(*cts, **params))


def _reduce_back(cts: Sequence[Any], **params: Any) -> list[Any]:
    return list(all_reduce.bind(*cts, **params))


def _refused(primitive: Primitive, instead: str) -> None:
    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
        outs = primitive.bind(*primals, **params)
        if not all(map(is_zero, tangents)):
            raise NotDifferentiableError(f"{primitive.name} has no derivative; {instead}")
        return outs, [Zero(out.aval.to_tangent()) for out in outs]

    primitive.jvp = jvp


# Batches: whole batches are communicated at once, so they must be equally large everywhere


def _batched(primitive: Primitive, at: int | None) -> None:
    """`at`: where results have the batch, if operands have it in front of all; None: as these."""

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[list[Any], list[int | None]]:
        moved = [
            x if dim is None else move_to_front(x, dim) for x, dim in zip(args, dims, strict=True)
        ]
        if primitive is reduce_scatter:
            moved = [x if d is None else _second(x) for x, d in zip(moved, dims, strict=True)]
        outs = primitive.bind(*moved, **params)
        if at is None:
            return outs, []
        return outs, [None if dim is None else at for dim in dims]

    primitive.batch = batch


def _second(x: Any) -> Any:
    """The array with its first dimension after the second one."""
    return transpose(x, permutation=(1, 0, *range(2, x.ndim)))


_RULES: list[tuple[Primitive, Callable[..., Any], Callable[..., Any]]] = [
    (all_reduce, _all_reduce_impl, _same),
    (all_gather, _all_gather_impl, _with_members),
    (reduce_scatter, _reduce_scatter_impl, _without_members),
    (broadcast, _broadcast_impl, _same),
    (reduce, _reduce_impl, _same),
    (all_reduce_start, _start_impl, _ticket_type),
    (all_reduce_done, _done_impl, _declared),
    (send, _send_impl, _nothing),
    (recv, _recv_impl, _declared),
    (barrier, _barrier_impl, _nothing),
]
for _one, _impl, _shape in _RULES:
    _one.impl, _one.shape = _impl, _shape

_linear(all_reduce, lambda *, op, **_: op == "sum")
_linear(all_gather)
_linear(reduce_scatter)
_linear(broadcast)
_linear(reduce)
_transposed(all_reduce, _reduce_back)
_transposed(all_gather, _gather_back)
_transposed(reduce_scatter, _scatter_back)
_transposed(broadcast, _broadcast_back)
_transposed(reduce, _root_back)
_refused(send, "send values that are not differentiated, and cotangents by themselves")
_refused(all_reduce_start, "all_reduce has one")
for _one, _at in (
    (all_reduce, 0),
    (broadcast, 0),
    (reduce, 0),
    (all_gather, 1),
    (reduce_scatter, 0),
):
    _batched(_one, _at)
_batched(send, None)
