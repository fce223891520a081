"""Collectives of three processes, against NumPy on the operands of all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.distributed import operations
from tests.distributed.operations import DTYPES, SHAPES, SIZE, operand
from tests.distributed.threads import PATIENCE

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import distributed

Answers = list[tuple[dict[str, Any], dict[str, str]]]
REDUCE = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    yield distributed.launch(operations.all_steps, SIZE, timeout=PATIENCE, limit=5 * PATIENCE)


def everyone(dtype: str = "float32", shape: tuple[int, ...] = (2, 3), seed: int = 0) -> list[Any]:
    return [operand(dtype, shape, process, seed) for process in range(SIZE)]


def reduced(values: list[Any], op: str) -> Any:
    """In the order of the processes, half types in float32."""
    dtype = values[0].dtype
    if dtype.kind == "b" and op in ("sum", "prod"):
        dtype = np.dtype(np.int32)
    wide = np.dtype(np.float32) if dtype.name in ("float16", "bfloat16") else dtype
    total = values[0].astype(wide)
    with np.errstate(all="ignore"):
        for value in values[1:]:
            total = REDUCE[op](total, value.astype(wide))
    return np.asarray(total).astype(dtype)


def same(found: Any, wanted: Any) -> None:
    found_leaves, wanted_leaves = fd.tree.leaves(found), fd.tree.leaves(wanted)
    assert fd.tree.structure(found) == fd.tree.structure(wanted)
    for a, b in zip(found_leaves, wanted_leaves, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


def close(found: Any, wanted: Any) -> None:
    for a, b in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


def test_each_knows_who_it_is(answers: Answers) -> None:
    found = [answer["identity"] for answer, _ in answers]
    assert found == [
        (r, SIZE, r, SIZE, f"ProcessGroup(rank={r}, size={SIZE})") for r in range(SIZE)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["sum", "mean", "prod", "max", "min"])
def test_reductions_have_the_same_bits_everywhere(answers: Answers, dtype: str, op: str) -> None:
    if dtype.startswith("complex") and op in ("max", "min"):
        pytest.skip("complex numbers have no order")
    for answer, _ in answers:
        found = answer["typed"][f"{op} {dtype}"]
        for shape in SHAPES:
            values = everyone(dtype, shape)
            if op == "mean":
                inexact = (fnp.ones((), dtype) / 2).dtype
                values = [np.asarray(fnp.asarray(x).astype(inexact)) for x in values]
                wanted = np.asarray(fnp.asarray(reduced(values, "sum")) / SIZE)
            else:
                wanted = reduced(values, op)
            same(found[str(shape)], wanted)


def test_trees_of_several_dtypes(answers: Answers) -> None:
    def tree_of(process: int) -> Any:
        first = operand("bfloat16", (7, 3), process), None, [operand("int8", (4,), process)]
        return {"w": first, "b": operand("float64", (11,), process), "n": np.int32(2)}

    trees = [tree_of(process) for process in range(SIZE)]
    for answer, _ in answers:
        total, gathered, third = answer["mixed"]
        same(total, fd.tree.map(lambda *xs: reduced(list(xs), "sum"), *trees))
        same(gathered, fd.tree.map(lambda *xs: np.stack(xs), *trees))
        same(third, trees[2])


def test_bits_do_not_depend_on_buckets(answers: Answers) -> None:
    wanted = [
        reduced(everyone(shape=(1000,)), "sum"),
        reduced(everyone(shape=(40000,), seed=1), "sum"),
    ]
    for answer, _ in answers:
        for found in answer["buckets"]:
            same(found, wanted)


def test_parts_and_wholes(answers: Answers) -> None:
    rows = reduced(everyone(shape=(SIZE, 4)), "sum")
    blocks = reduced(everyone("int16", (2 * SIZE, 3)), "sum")
    batch = np.arange(12, dtype=np.int32).reshape(6, 2)
    for rank, (answer, _) in enumerate(answers):
        same(answer["scattered"], (rows[rank], blocks[2 * rank : 2 * rank + 2]))
        same(answer["gathered"], np.concatenate(everyone()))
        same(answer["sharded"]["x"], batch[2 * rank : 2 * rank + 2])


def test_messages_from_one_to_another(answers: Answers) -> None:
    for rank, (answer, _) in enumerate(answers):
        before = (rank - 1) % SIZE
        first = {"a": operand("bfloat16", (3,), before), "b": operand("float32", (), before)}
        same(answer["around"], (first, operand("int32", (0, 2), before)))
        others = [r for r in range(SIZE) if r != rank]
        sums = {r: operand("float64", (1 << 19,), r).sum() for r in others}
        close(answer["exchanged_large"], sums)
    x = operand("float32", (2, 3), 0)
    close(answers[0][0]["sent_in_program"], x + 3)
    close(answers[1][0]["sent_in_program"], [x, x + 1, x + 2])


def test_within_one_program_and_out_of_order(answers: Answers) -> None:
    doubled, sines = [x * 2 for x in everyone()], [np.sin(x) for x in everyone()]
    largest = np.max(sines, axis=0)
    for answer, _ in answers:
        total, found, gathered = answer["staged"]
        same(total, reduced(doubled, "sum"))
        close((found, gathered), (largest, np.stack([largest[0]] * SIZE)))
        wanted = [np.mean(everyone(seed=seed), axis=0) for seed in (2, 1, 0)]
        close(answer["pending"], wanted)


def test_derivatives_are_those_of_the_sum_of_all_results(answers: Answers) -> None:
    xs = everyone(shape=(SIZE, 4))
    total = np.sum(xs, axis=0)
    for rank, (answer, _) in enumerate(answers):
        found = answer["derivatives"]
        gradients = {
            "all_reduce": 2 * SIZE * total,
            "all_gather": 2 * SIZE * xs[rank],
            "broadcast": 2 * SIZE * xs[0] if rank == 0 else 0 * xs[0],
            "reduce_scatter": 2 * total,
        }
        values = {
            "all_reduce": total,
            "all_gather": np.stack(xs),
            "broadcast": xs[0],
            "reduce_scatter": total[rank],
        }
        for name, gradient in gradients.items():
            for way in ("grad of", "grad of jit of", "jit of grad of"):
                close(found[f"{way} {name}"], gradient)
            # All these are quadratic forms: the gradient is linear, and symmetric.
            close(found[f"grad of grad of {name}"], 2 * gradient)
            close(found[f"jvp of {name}"], (values[name], 3 * values[name]))
        close(found["mean"], 2 * total / SIZE)


def test_batches_are_communicated_at_once(answers: Answers) -> None:
    xs = everyone(shape=(4, SIZE, 5))
    total = np.sum(xs, axis=0)
    for rank, (answer, _) in enumerate(answers):
        found = answer["batched"]
        close(found["all_reduce"], [total, total])
        close(found["jit"], total)
        close(found["broadcast"], [xs[0], xs[0]])
        stacked = np.stack(xs)
        # A batch along an axis stays along it: in front of the processes, or two axes after them.
        close(found["all_gather"], [np.moveaxis(stacked, 1, 0), np.moveaxis(stacked, 3, 2)])
        close(found["reduce_scatter"], [total[:, rank], total[0, rank]])


MISTAKES = {
    "shape": "DistributedError: processes do not agree: collective .* all_reduce.sum. of "
    r"\['w'\]: f32\[2,[34]\] in process .*\['w'\]: f32\[2,[34]\] in process",
    "large": r"DistributedError: .*f32\[6553[67]\]",
    "dtype": r"DistributedError: .*i8\[3\]",
    "structure": r"DistributedError: .*\['b'\]: f32\[2\]",
    "function": "DistributedError: .*barrier",
    "op": r"DistributedError: .*all_reduce\(max\)",
    "in a program": r"DistributedError: .*f32\[[234]\]",
    "no op": "ArgumentError: all_reduce: op must be one of 'sum', 'prod', .*; got 'median'",
    "no rank": "ArgumentError: broadcast: root must be the number of a process, from 0 to 2; got 3",
    "to itself": "ArgumentError: send: dest must be another process; . is this one",
    "complex": "DtypeError: all_reduce: complex numbers have no max, got c64",
    "leaf": r"LeafTypeError: all_reduce: argument x\['x'\]",
    "parts": "ShapeError: shard requires .* multiple of the number of processes, 3",
    "rows": "ShapeError: reduce_scatter requires a first dimension .* 3 processes",
    "scalar": "ShapeError: all_gather with tiled=True requires arrays with a dimension",
    "like": r"LeafTypeError: recv requires like\['x'\] to have a shape and a dtype, got int: 3",
    "derivative": r"NotDifferentiableError: all_reduce\(max\) has no derivative",
    "derivative of start": "NotDifferentiableError: all_reduce_start has no derivative",
    "again": "DistributedError: initialize: this process is process . of 3 already",
    "after shutdown": "DistributedError: barrier requires a group of processes",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_said_of_a_mistake_in_every_process(answers: Answers, mistake: str) -> None:
    for _, said in answers:
        assert re.match(MISTAKES[mistake], said[mistake], re.DOTALL), said[mistake]


def test_the_group_goes_on_after_mistakes(answers: Answers) -> None:
    assert [said["total"] for _, said in answers] == ["6.0"] * SIZE
    wanted = "DistributedError: recv(source=0) of f32[2], got f32[3]: process 0 sent other arrays"
    assert answers[1][1]["recv"].startswith(wanted)
    assert "recv" not in answers[0][1]
