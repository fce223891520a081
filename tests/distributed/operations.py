"""What three processes do together in one launch, whose answers `test_operations.py` looks at.

Each row is a function that every process calls; what it returns is compared with what NumPy makes
of the operands of all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed, lax

SIZE = 3
DTYPES = (
    *("bool", "int8", "uint8", "int32", "uint32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)
SHAPES = ((), (1,), (5,), (3, 0), (2, 3, 7), (30011,))  # the last: beyond one round
BATCHED: tuple[Callable[..., Any], ...] = (
    distributed.all_reduce,
    distributed.all_gather,
    distributed.broadcast,
)


def rank() -> int:
    return distributed.current_group().rank


def operand(dtype: str, shape: tuple[int, ...], process: int, seed: int = 0) -> Any:
    """The same in every process that asks for it."""
    rng = np.random.default_rng([seed, process])
    values = rng.normal(size=shape) * 3
    if dtype.startswith("complex"):
        values = values + 1j * rng.normal(size=shape)
    return np.asarray(fnp.asarray(np.asarray(values)).astype(dtype))


def own(dtype: str = "float32", shape: tuple[int, ...] = (2, 3), seed: int = 0) -> Any:
    return operand(dtype, shape, rank(), seed)


def typed() -> dict[str, Any]:
    """One tree for each dtype, with leaves of all shapes, reduced in every way."""
    found: dict[str, Any] = {}
    for dtype in DTYPES:
        x = {str(shape): own(dtype, shape) for shape in SHAPES}
        for op in ("sum", "mean", "prod", "max", "min"):
            if op in ("max", "min") and dtype.startswith("complex"):
                continue
            found[f"{op} {dtype}"] = distributed.all_reduce(x, op)
    return found


def mixed() -> Any:
    """A nested tree of several dtypes, in one message."""
    x = {
        "w": (own("bfloat16", (7, 3)), None, [own("int8", (4,))]),
        "b": own("float64", (11,)),
        "n": 2,
    }
    return distributed.all_reduce(x), distributed.all_gather(x), distributed.broadcast(x, 2)


def buckets() -> Any:
    """Sums of two arrays, by themselves and together, and of an array beyond one round."""
    x, y = own(shape=(1000,)), own(shape=(40000,), seed=1)
    both = distributed.all_reduce([x, y])
    return [distributed.all_reduce(x), distributed.all_reduce(y)], both


def scattered() -> Any:
    rows, blocks = own(shape=(SIZE, 4)), own("int16", (2 * SIZE, 3))
    return distributed.reduce_scatter(rows), distributed.reduce_scatter(blocks, tiled=True)


def gathered() -> Any:
    return distributed.all_gather(own(shape=(2, 3)), tiled=True)


def sharded() -> Any:
    return distributed.shard({"x": fnp.arange(12).reshape(6, 2)})


def around() -> Any:
    """Each sends the next one two messages of different tags, and asks for the later one first."""
    group = distributed.current_group()
    after, before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
    first, second = {"a": own("bfloat16", (3,)), "b": own(shape=())}, own("int32", (0, 2))
    distributed.send(first, after)
    distributed.send(second, after, tag=1)
    late = distributed.recv(second, before, tag=1)
    return distributed.recv(first, before), late


def exchanged_large() -> Any:
    """All send before any receives, far more than connections hold."""
    group = distributed.current_group()
    x = own("float64", (1 << 19,))
    others = [r for r in range(group.size) if r != group.rank]
    for other in others:
        distributed.send(x, other)
    return {other: distributed.recv(x, other).sum() for other in others}


def staged() -> Any:
    """All in one jitted program, with communication in between."""

    @fd.jit
    def program(x: Any) -> Any:
        pending = distributed.all_reduce_start({"x": x * 2})
        y = fnp.sin(x)
        distributed.barrier()
        total = distributed.all_reduce(y, "max")
        return pending.wait()["x"], total, distributed.all_gather(total[0])

    return program(own())


def pending() -> Any:
    """Several are begun, and waited for in another order."""
    started = [distributed.all_reduce_start(own(seed=seed), "mean") for seed in range(3)]
    return [p.wait() for p in reversed(started)]


def sent_in_program() -> Any:
    """send and recv in programs, within a loop."""
    group = distributed.current_group()
    like = fd.ShapeDtypeStruct((2, 3), "float32")
    if group.rank == 0:

        @fd.jit
        def source(x: Any) -> Any:
            def step(x: Any, _: Any) -> Any:
                distributed.send(x, 1)
                return x + 1, None

            return lax.scan(step, x, None, length=3)[0]

        return source(own())
    if group.rank == 1:
        return fd.jit(lambda: [distributed.recv(like, 0) for _ in range(3)])()
    return None


def derivatives() -> Any:
    """Of the sum of squares of what all processes get."""
    x = own(shape=(SIZE, 4))

    def length(collective: Callable[..., Any]) -> Any:
        return lambda x: (collective(x) ** 2).sum()

    found: dict[str, Any] = {}
    for collective in (*BATCHED, distributed.reduce_scatter):
        name = collective.__name__
        found[f"grad of {name}"] = fd.grad(length(collective))(x)
        found[f"grad of jit of {name}"] = fd.grad(fd.jit(length(collective)))(x)
        found[f"jit of grad of {name}"] = fd.jit(fd.grad(length(collective)))(x)
        found[f"grad of grad of {name}"] = fd.grad(
            lambda x, f=collective: (fd.grad(length(f))(x) * x).sum()
        )(x)
        found[f"jvp of {name}"] = fd.jvp(collective, (x,), (x * 3,))
    found["mean"] = fd.grad(lambda x: (distributed.all_reduce(x, "mean") ** 2).sum())(x)
    return found


def batched() -> Any:
    x = own(shape=(4, SIZE, 5))
    found = {f.__name__: [fd.vmap(f, axis, axis)(x) for axis in (0, 2)] for f in BATCHED}
    found["reduce_scatter"] = [fd.vmap(distributed.reduce_scatter)(x)]
    found["reduce_scatter"] += [fd.vmap(distributed.reduce_scatter, 1, 0)(x[0])]
    found["jit"] = fd.jit(fd.vmap(distributed.all_reduce))(x)
    return found


def identity() -> Any:
    group = distributed.current_group()
    return group.rank, group.size, fd.process_index(), fd.process_count(), repr(group)


STEPS: tuple[Callable[[], Any], ...] = (
    *(identity, typed, mixed, buckets, scattered, gathered, sharded, around, exchanged_large),
    *(pending, derivatives, batched),
)
COMPILED: tuple[Callable[[], Any], ...] = (staged, sent_in_program)


def messages() -> dict[str, str]:
    """What is said of mistakes, after each of which the group goes on."""
    group = distributed.current_group()
    calls: dict[str, Callable[[], Any]] = {
        "shape": lambda: distributed.all_reduce({"w": fnp.ones((2, 3 + (group.rank == 1)))}),
        "large": lambda: distributed.all_reduce(fnp.ones((1 << 16) + (group.rank == 2))),
        "dtype": lambda: distributed.all_reduce(
            fnp.ones(3, "int8" if group.rank == 2 else "float32")
        ),
        "structure": lambda: distributed.broadcast(
            {"b": fnp.ones(2)} if group.rank == 0 else {"a": fnp.ones(2)}
        ),
        "function": lambda: (
            distributed.barrier() if group.rank == 2 else distributed.all_gather(fnp.ones(2))
        ),
        "op": lambda: distributed.all_reduce(fnp.ones(2), "max" if group.rank else "sum"),
        "recv": lambda: (
            distributed.send(fnp.ones(3), 1)
            if group.rank == 0
            else distributed.recv(fnp.ones(2), 0)
            if group.rank == 1
            else None
        ),
        "in a program": lambda: fd.jit(distributed.all_reduce)(fnp.ones(2 + group.rank)),
        "no op": lambda: distributed.all_reduce(fnp.ones(2), "median"),
        "no rank": lambda: distributed.broadcast(fnp.ones(2), 3),
        "to itself": lambda: distributed.send(fnp.ones(2), group.rank),
        "complex": lambda: distributed.all_reduce(fnp.ones(2, "complex64"), "max"),
        "leaf": lambda: distributed.all_reduce({"x": "text"}),
        "parts": lambda: distributed.shard(fnp.ones((4, 2))),
        "rows": lambda: distributed.reduce_scatter(fnp.ones((2, 2))),
        "scalar": lambda: distributed.all_gather(1.0, tiled=True),
        "like": lambda: distributed.recv({"x": 3}, (group.rank + 1) % group.size),
        "derivative": lambda: fd.grad(lambda x: distributed.all_reduce(x, "max"))(1.0),
        "derivative of start": lambda: fd.grad(
            lambda x: distributed.all_reduce_start(x).wait().sum()
        )(fnp.ones(2)),
        "again": lambda: distributed.initialize("localhost:1", 2, 0),
    }
    said: dict[str, str] = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    # Whoever was refused is in step with the others still.
    said["total"] = str(float(distributed.all_reduce(fnp.float32(group.rank + 1))))
    distributed.shutdown()
    try:
        distributed.barrier()
    except Exception as error:
        said["after shutdown"] = f"{type(error).__name__}: {error}"
    return said


def all_steps() -> tuple[dict[str, Any], dict[str, str]]:
    answers = {step.__name__: step() for step in COMPILED}
    with fd.config.override(backend="reference"):
        answers |= {step.__name__: step() for step in STEPS}
        said = messages()
    return fd.tree.map(lambda x: np.asarray(x) if isinstance(x, fd.Array) else x, answers), said
