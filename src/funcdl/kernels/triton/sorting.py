"""The texts of functions that sort: comparison by some keys, and networks of exchanges.

Elements are compared by their keys, NaN after all numbers, and where those are equal by where they
came from, so that the order is stable and no two elements are equal. A network exchanges elements
whose lanes differ in one bit (K. E. Batcher, "Sorting networks and their applications", 1968). It
needs no branch, and of an exchange each of the two lanes keeps its own side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

_COMES_FIRST = """def {name}({x}, {y}, tie):
    # Whether x comes before y; where all keys are equal, `tie` decides.
    first = tie
{compares}
    return first
"""

_EXCHANGED = """def {name}({keys}, at, distance, ascending, LANES: tl.constexpr, LENGTH):
    lane = tl.arange(0, LANES)
    partner = lane ^ distance
    other_at = tl.gather(at, partner, 0)
{gathers}
    first = {comes_first}({keys}, {others}, at < other_at)
    # Lanes beyond the row go last.
    first = tl.where((at < LENGTH) == (other_at < LENGTH), first, at < LENGTH)
    lower = (lane & distance) == 0
    stays = first == (lower == ascending)
{moves}
    return {keys}, tl.where(stays, at, other_at)
"""

_SORTED = """def {name}({keys}, at, LANES: tl.constexpr, LENGTH):
    lane = tl.arange(0, LANES)
    size = 2
    while size <= LANES:
        distance = size // 2
        while distance > 0:
            {keys}, at = {exchanged}({keys}, at, distance, (lane & size) == 0, LANES, LENGTH)
            distance = distance // 2
        size = size * 2
    return {keys}, at
"""

_MERGED = """def {name}({keys}, at, LANES: tl.constexpr, LENGTH):
    # Of lanes that rise and then fall the smaller half goes down, the larger one up, and both
    # halves rise and fall again.
    lane = tl.arange(0, LANES)
    distance = LANES // 2
    while distance > 0:
        {keys}, at = {exchanged}({keys}, at, distance, lane >= 0, LANES, LENGTH)
        distance = distance // 2
    return {keys}, at
"""

Network = Literal["sorted", "merged"]
_NETWORKS: dict[Network, str] = {"sorted": _SORTED, "merged": _MERGED}


def names(stem: str, count: int) -> str:
    """``key_0, key_1``."""
    return ", ".join(f"{stem}_{n}" for n in range(count))


def comes_first(count: int, descending: bool) -> str:
    """The name of the comparison by some keys."""
    return f"comes_first_{count}{'_down' if descending else ''}"


def sorting_functions(how: Network, count: int, descending: bool) -> dict[str, str]:
    """A network for elements of `count` keys, the last of these functions, after those it calls.

    ``sorted`` sorts a block, ``merged`` one whose first lanes rise and whose last ones fall. Both
    take the keys, the elements' places, the number of lanes, and the length of the row: places from
    there on are of lanes without an element. They return the keys and places in order.
    """
    suffix = f"_{count}{'_down' if descending else ''}"
    compare = comes_first(count, descending)
    keys, others = names("key", count), names("other", count)
    exchanged = f"exchanged{suffix}"
    numbers = range(count)
    return {
        compare: _COMES_FIRST.format(
            name=compare,
            x=names("x", count),
            y=names("y", count),
            compares=_lines(_compare(n, descending) for n in reversed(numbers)),
        ),
        exchanged: _EXCHANGED.format(
            name=exchanged,
            keys=keys,
            others=others,
            comes_first=compare,
            gathers=_lines(f"other_{n} = tl.gather(key_{n}, partner, 0)" for n in numbers),
            moves=_lines(f"key_{n} = tl.where(stays, key_{n}, other_{n})" for n in numbers),
        ),
        f"{how}{suffix}": _NETWORKS[how].format(
            name=f"{how}{suffix}", keys=keys, exchanged=exchanged
        ),
    }


def _compare(n: int, descending: bool) -> str:
    """One key's word, which counts where those of later keys did; NaN is the largest."""
    x, y = f"x_{n}", f"y_{n}"
    same = f"({x} == {y}) | (({x} != {x}) & ({y} != {y}))"
    low, high = (y, x) if descending else (x, y)
    before = f"({low} < {high}) | (({high} != {high}) & ({low} == {low}))"
    return f"first = tl.where({same}, first, {before})"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
