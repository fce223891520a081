"""The kernels that sort long rows against NumPy, in Triton's interpreter.

``python -m tests.kernels.sort_cases name …`` prints where they disagree as JSON.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from funcdl.kernels.triton.library import merge_runs, sort_blocks
from funcdl.kernels.triton.library.sort_problem import Sort
from funcdl.kernels.triton.library.template import tiles
from funcdl.ops import sort as reference

Array = np.ndarray[Any, Any]


def problem(rows: int, length: int, *names: str, descending: bool = False) -> Sort:
    dtypes = (np.dtype(getattr(ml_dtypes, name, None) or name) for name in names)
    return Sort(rows, length, tuple(dtypes), descending)


# Each with the number of elements that a program takes: odd lengths, runs without a partner.
CASES: dict[str, tuple[Sort, int]] = {
    "blocks_of_4": (problem(2, 37, "f4"), 4),
    "blocks_of_16": (problem(2, 37, "f4"), 16),
    "blocks_of_32": (problem(2, 37, "f4"), 32),
    "largest_first": (problem(3, 45, "f4", descending=True), 8),
    "whole_runs": (problem(1, 64, "i4"), 8),
    "one_block": (problem(3, 5, "i4"), 8),
    "one_element": (problem(2, 1, "u2"), 2),
    "bool": (problem(1, 33, "?"), 4),
    "bfloat16_and_int64": (problem(2, 50, "bfloat16", "i8"), 16),
    "three_keys": (problem(1, 41, "f8", "u1", "f2", descending=True), 8),
    "unsigned": (problem(1, 30, "u8", "u4"), 4),
}


def keys_of(sort: Sort) -> list[Array]:
    """Keys of few different values, NaN, infinities and both zeros among the floats."""
    rng = np.random.default_rng(sort.length)
    shape = (sort.rows, sort.length)
    found = []
    for dtype in sort.dtypes:
        if dtype.kind in "biu":
            low = int(np.iinfo(dtype).min) if dtype.kind == "i" else 0
            key = (rng.integers(0, 4, shape) + low * rng.integers(0, 2, shape)).astype(dtype)
        else:
            values = np.array([-np.inf, -1.5, -0.0, 0.0, 2.0, np.inf, np.nan, -np.nan])
            key = rng.choice(values, shape).astype(dtype)
        found.append(key)
    return found


def run(name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the kernels and what NumPy gives: the places, and the keys at them."""
    from funcdl.kernels.triton.interpret import interpret

    sort, lanes = CASES[name]
    chosen = tiles(1, 1, LANES=lanes)
    keys = keys_of(sort)
    elements = sort.rows * sort.length
    memory = {f"key_{n}": np.empty(elements, key.dtype) for n, key in enumerate(keys)}
    memory |= {"places": np.full(elements, -1, np.int32), "run": np.zeros(1, np.int64)}
    given = {f"given_{n}": key.reshape(-1) for n, key in enumerate(keys)}
    interpret(sort_blocks.kernel(sort, chosen), given | memory)
    while memory["run"][0] < sort.length:
        merged = {f"merged_{name}": np.empty_like(array) for name, array in memory.items()}
        merged["merged_places"][...] = -1
        interpret(merge_runs.kernel(sort, chosen), memory | merged)
        assert merged["merged_run"][0] == 2 * memory["run"][0]
        memory = {name.removeprefix("merged_"): array for name, array in merged.items()}
    del memory["run"]
    assert reference.order_rows.impl is not None
    places = reference.order_rows.impl(*keys, descending=sort.descending)
    wanted = {f"key_{n}": np.take_along_axis(key, places, 1) for n, key in enumerate(keys)}
    return memory, wanted | {"places": places}


def differences(names: list[str]) -> dict[str, str]:
    """Where the kernels and NumPy disagree, by case; "" where they do not."""
    found = {}
    for name in names:
        left, right = run(name)
        found[name] = ""
        for buffer, values in right.items():
            if left[buffer].tobytes() != values.tobytes() and not np.array_equal(
                left[buffer].astype(np.float64),
                values.reshape(-1).astype(np.float64),
                equal_nan=True,
            ):
                found[name] += f"{buffer}: {left[buffer]} is not {values.reshape(-1)}\n"
    return found


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(differences(sys.argv[1:])))
