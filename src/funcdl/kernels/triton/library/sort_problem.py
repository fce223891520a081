"""Sorting rows of any length: blocks are sorted, then runs merged two by two until one is left.

`sort_blocks` makes the first runs, and each pass of `merge_runs` reads and writes every key and
place once. All passes are one kernel: the length of the runs lies in memory, and each pass writes
twice it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.triton import text
from funcdl.kernels.triton.library.template import Estimate, Tiles, tiles
from funcdl.kernels.triton.sorting import names
from funcdl.kernels.triton.triton_kernel import TritonKernel


@dataclass(frozen=True, slots=True)
class Sort:
    """`rows` rows of `length` elements, with keys of some types, the first one above all.

    `block` is the number of elements, a power of two, that a program takes; the first runs are as
    long. Buffers are the keys ``key_0``, … [rows, length], ``int32 places[rows, length]``, where
    the elements came from within their row, and ``int64 run[1]``, the length of the sorted runs.
    """

    rows: int
    length: int
    dtypes: tuple[np.dtype[Any], ...]
    descending: bool = False
    block: int = 2048

    def __post_init__(self) -> None:
        if min(self.rows, self.length) < 1 or self.length >= 2**31 or not self.dtypes:
            raise ValueError(
                "sorting kernels take one key or more of one row or more of 1 to 2**31 - 1 "
                f"elements, got {len(self.dtypes)} keys of {self.rows} rows of {self.length}"
            )


def candidates(problem: Sort) -> list[Tiles]:
    """One choice only: blocks are the first runs, so that both kernels have to agree on them."""
    return [tiles(max(1, problem.block // 256), 1, LANES=problem.block)]


def estimate(problem: Sort, chosen: Tiles) -> Estimate:
    """Every key and place read and written."""
    width = sum(dtype.itemsize for dtype in problem.dtypes) + 4
    elements = problem.rows * problem.length
    lanes = chosen["LANES"]
    return Estimate(2 * width * elements, elements * lanes.bit_length() * 8, lanes * width)


def common(problem: Sort, chosen: Tiles | None) -> dict[str, Any]:
    """What both kernels' texts have in common."""
    lanes = (chosen or candidates(problem)[0])["LANES"]
    count = len(problem.dtypes)
    return {
        "rows": problem.rows,
        "length": problem.length,
        "lanes": lanes,
        "blocks": -(-problem.length // lanes),
        "keys": pointers("key", count),
        "values": names("value", count),
    }


def finish(
    problem: Sort,
    chosen: Tiles | None,
    functions: Mapping[str, str],
    buffers: Mapping[str, np.dtype[Any]],
) -> TritonKernel:
    """The kernel that is the last one of `functions`."""
    chosen = chosen or candidates(problem)[0]
    head = "import triton\nimport triton.language as tl\n"
    return TritonKernel(
        source="\n\n".join([head, *(f"@triton.jit\n{part}" for part in functions.values())]),
        name=list(functions)[-1],
        grid=(problem.rows * -(-problem.length // chosen["LANES"]),),
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        signature={f"{b}_ptr": text.pointer_type(dtype) for b, dtype in buffers.items()},
    )


def keys(stem: str, problem: Sort) -> dict[str, np.dtype[Any]]:
    """Buffers of keys."""
    return {f"{stem}_{n}": dtype for n, dtype in enumerate(problem.dtypes)}


def places(prefix: str = "") -> dict[str, np.dtype[Any]]:
    """The buffers of places and of the runs' length."""
    return {f"{prefix}places": np.dtype(np.int32), f"{prefix}run": np.dtype(np.int64)}


def pointers(stem: str, count: int) -> str:
    """Parameters."""
    return ", ".join(f"{stem}_{n}_ptr" for n in range(count))


def loads(value: str, stem: str, problem: Sort, offset: str, mask: str = "") -> list[str]:
    """Lines that load a value of each key, as keys are compared: half types as float32."""
    lines = []
    for n, dtype in enumerate(problem.dtypes):
        wide = ".to(tl.float32)" if dtype in dtypes.HALF else ""
        masked = f", mask={mask}" if mask else ""
        lines.append(f"{value}_{n} = tl.load({stem}_{n}_ptr + {offset}{masked}){wide}")
    return lines


def stores(value: str, stem: str, problem: Sort, offset: str, mask: str) -> list[str]:
    """Lines that store a value of each key."""
    lines = []
    for n, dtype in enumerate(problem.dtypes):
        narrow = f".to({text.type_name(dtype)})" if dtype in dtypes.HALF else ""
        lines.append(f"tl.store({stem}_{n}_ptr + {offset}, {value}_{n}{narrow}, mask={mask})")
    return lines


def indented(lines: Iterable[str], depth: int = 1) -> str:
    """Lines as part of a text."""
    return "\n".join("    " * depth + line for line in lines)
