"""Data parallel training: gradients of parts of a batch, averaged while the rest is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.array import aval_of
from funcdl.core.integers import integer
from funcdl.core.jaxpr import Atom, Jaxpr, Literal, Var
from funcdl.core.pruning import prune_jaxpr
from funcdl.core.records import record
from funcdl.core.source import place
from funcdl.core.staging import trace_to_jaxpr
from funcdl.distributed.initialization import current_group
from funcdl.distributed.operations import Pending, all_reduce, all_reduce_start
from funcdl.distributed.programs import inlined
from funcdl.errors import ArgumentError, LeafTypeError
from funcdl.transforms.arguments import as_arrays, function_name
from funcdl.transforms.gradient import value_and_grad as of_one_process

# Enough that a message's own cost does not count, and little enough that several are on their way
# before the last gradient is computed.
BUCKET_BYTES = 1 << 20


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    bucket_bytes: int | None = BUCKET_BYTES,
) -> Callable[..., Any]:
    """`jax.value_and_grad` of the mean of a function over all processes.

    Each process calls it with its own part of a batch, of the same shape in all (see `shard`), and
    with the same parameters. Where `fun` is a mean over examples, the results are those of one
    process with the whole batch. All of them get the same bits, so parameters stay the same.

    Gradients are sent in buckets, each as soon as it is computed, while the program goes on with
    the others: in a jitted function as in an eager one.

    Args:
      fun, argnums, has_aux: as for `funcdl.value_and_grad`. What `fun` returns besides its value,
        with `has_aux`, is each process's own.
      bucket_bytes: how many bytes of gradients make a bucket, at least; None sends them all once
        they are computed, which has a derivative.

    Returns:
      A function that returns ``(value, gradient)``, or ``((value, aux), gradient)``.

    Raises:
      ArgumentError: `bucket_bytes` is not positive.
      DistributedError, PeerError, DistributedTimeoutError: when called, as for `all_reduce`.
    """
    if bucket_bytes is not None and integer("value_and_grad: bucket_bytes", bucket_bytes) < 1:
        raise ArgumentError(
            f"value_and_grad: bucket_bytes must be positive or None, got {bucket_bytes}"
        )
    local = of_one_process(fun, argnums, has_aux)

    @functools.wraps(fun)
    def mean_value_and_grad(*args: Any, **kwargs: Any) -> Any:
        current_group("distributed.value_and_grad")
        if bucket_bytes is None:
            found, gradient = local(*args, **kwargs)
            value, aux = found if has_aux else (found, None)
            value, gradient = all_reduce((value, gradient), "mean")
            return ((value, aux) if has_aux else value), gradient
        return _overlapped(local, has_aux, bucket_bytes, function_name(fun), args, kwargs)

    return mean_value_and_grad


def _overlapped(
    local: Callable[..., Any],
    has_aux: bool,
    bucket_bytes: int,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    leaves, in_tree = tree.flatten((args, kwargs))
    dynamic = [_is_array(leaf) for leaf in leaves]
    xs, _ = as_arrays("argument", [x for x, d in zip(leaves, dynamic, strict=True) if d], name)
    count = 0
    structures: list[tree.TreeDef] = []

    def flat(*arrays: Any) -> list[Any]:
        nonlocal count
        given = iter(arrays)
        rebuilt: Any = in_tree.unflatten(
            [next(given) if d else x for x, d in zip(leaves, dynamic, strict=True)]
        )
        found, gradient = local(*rebuilt[0], **rebuilt[1])
        value, aux = found if has_aux else (found, None)
        shared, shared_tree = tree.flatten((value, gradient))
        own, own_tree = tree.flatten(aux)
        count = len(shared)
        structures.extend([shared_tree, own_tree])
        return [*shared, *own]

    jaxpr, consts = prune_jaxpr(*trace_to_jaxpr(flat, [x.aval for x in xs], name=name))
    program, values, inputs = inlined(jaxpr, consts)
    values.update(zip(inputs, xs, strict=True))
    results = _run(program, values, _buckets(program, count, bucket_bytes), count)
    value, gradient = structures[0].unflatten(results[:count])
    return ((value, structures[1].unflatten(results[count:])) if has_aux else value), gradient


def _is_array(x: Any) -> bool:
    try:
        aval_of(x)
    except LeafTypeError:
        return False
    return True


@record
class _Bucket:
    """Outputs that are reduced together, once the equation at `ready` has been run."""

    ready: int
    outputs: tuple[int, ...]


def _buckets(jaxpr: Jaxpr, count: int, least_bytes: int) -> list[_Bucket]:
    """The first `count` outputs of a program, in the order in which they are computed."""
    made = {var: i for i, eqn in enumerate(jaxpr.eqns) for var in eqn.outvars}
    ready = [made.get(atom, -1) if isinstance(atom, Var) else -1 for atom in jaxpr.outvars[:count]]
    buckets: list[_Bucket] = []
    outputs: list[int] = []
    nbytes = 0
    for i in sorted(range(count), key=ready.__getitem__):
        outputs.append(i)
        nbytes += jaxpr.outvars[i].aval.nbytes
        if nbytes >= least_bytes:
            buckets.append(_Bucket(ready[i], tuple(outputs)))
            outputs, nbytes = [], 0
    if outputs:
        buckets.append(_Bucket(ready[outputs[-1]], tuple(outputs)))
    return buckets


def _run(jaxpr: Jaxpr, values: dict[Var, Any], buckets: Sequence[_Bucket], count: int) -> list[Any]:
    """The program's outputs, the first `count` of them averaged over all processes."""
    started: list[Pending] = []

    def read(atom: Atom) -> Any:
        return atom.value if isinstance(atom, Literal) else values[atom]

    def start(position: int) -> None:
        while len(started) < len(buckets) and buckets[len(started)].ready <= position:
            outputs = buckets[len(started)].outputs
            started.append(all_reduce_start([read(jaxpr.outvars[i]) for i in outputs], "mean"))

    start(-1)
    caller = place.line
    try:
        for position, eqn in enumerate(jaxpr.eqns):
            place.line = eqn.source or caller
            out = eqn.primitive.bind(*map(read, eqn.invars), **eqn.params)
            outs = out if eqn.primitive.multiple_results else [out]
            values.update(zip(eqn.outvars, outs, strict=True))
            start(position)
    finally:
        place.line = caller
    results = [None] * count + [read(atom) for atom in jaxpr.outvars[count:]]
    for bucket, pending in zip(buckets, started, strict=True):
        for i, result in zip(bucket.outputs, pending.wait(), strict=True):
            results[i] = result
    return results
