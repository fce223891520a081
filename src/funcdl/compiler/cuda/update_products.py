"""Products of updates that meet: updates in the order of their places, and products of neighbours.

No atomic instruction multiplies. Updates are sorted by the element that they go to, its old value
first, so that those of one element lie side by side; products of 2, 4, 8, ... neighbours follow
from each other, in as many passes as the number of updates has bits; and each element fetches the
product that ends with its last update. Factors of one element are always multiplied in one order.

Rejected: *a loop of compare-and-swap*, where each program reads, multiplies, and tries to write
until nobody else has written meanwhile. Alone at its element it takes one round; of n updates of
one element, n rounds, in another order and with other last bits in every run. Rejected:
*one atomic maximum of update numbers for each factor of an element*, for the same number of rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.compiler.cuda.last_update import fetched, last_updates
from funcdl.control.scan import scan
from funcdl.ops.arithmetic import add, mul, sub
from funcdl.ops.bits import and_, shift_left
from funcdl.ops.comparison import eq, ge, lt
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.scatter import ScatterDimensionNumbers, numbers_of_elements
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full_like, iota, reshape
from funcdl.ops.sort import sort

_INT32 = np.dtype(np.int32)


def multiplied(operand: Any, indices: Any, updates: Any, **params: Any) -> Any:
    """What `scatter_mul` returns."""
    count = updates.aval.size
    if count == 1 or params["unique_indices"]:
        last = last_updates(operand, indices, updates, **params)
        product = mul(operand, fetched(updates, last))
        return select_n(lt(last, full_like(last, 0)), product, operand)
    # From 1; updates with 0 are dropped.
    places = reshape(
        numbers_of_elements(operand.shape, indices, updates.shape, **params), new_sizes=(count,)
    )
    numbers = _numbers(count)
    places, numbers = sort(places, numbers, dimension=0, is_stable=True, num_keys=1)
    factors = fetched(updates, numbers)
    elements = sub(places, full_like(places, 1))
    with_old = mul(fetched(operand, elements), factors)
    first = select_n(_meets(places, _numbers(count, -1)), with_old, factors)
    products = _running_products(places, first)

    # Only the last update of each element has a place inside, so that none meet.
    ends = select_n(_meets(places, _numbers(count, 1)), elements, full_like(elements, -1))
    flat = reshape(operand, new_sizes=(operand.aval.size,))
    last = last_updates(
        flat,
        reshape(ends, new_sizes=(count, 1)),
        ends,
        dimension_numbers=ScatterDimensionNumbers((), (0,), (0,)),
        indices_are_sorted=False,
        unique_indices=False,
        mode=GatherScatterMode.FILL_OR_DROP,
    )
    out = select_n(lt(last, full_like(last, 0)), fetched(products, last), flat)
    return reshape(out, new_sizes=operand.shape)


def _running_products(places: Any, factors: Any) -> Any:
    """For each factor the product of all that lie before it at the same place, and of itself."""
    (count,) = factors.shape
    steps = (count - 1).bit_length()
    exponents = iota(dtype=_INT32, shape=(steps,), dimension=0)

    def double(products: Any, distance: Any) -> tuple[Any, None]:
        before = sub(_numbers(count), broadcast_to(distance, (count,)))
        product = mul(fetched(products, before), products)
        return select_n(_meets(places, before), products, product), None

    return scan(double, factors, shift_left(full_like(exponents, 1), exponents))[0]


def _meets(places: Any, others: Any) -> Any:
    """Whether there is an update of each of these numbers, and at the same place."""
    inside = and_(ge(others, full_like(others, 0)), lt(others, full_like(others, places.shape[0])))
    return and_(inside, eq(fetched(places, others), places))


def _numbers(count: int, offset: int = 0) -> Any:
    numbers = iota(dtype=_INT32, shape=(count,), dimension=0)
    return add(numbers, full_like(numbers, offset)) if offset else numbers
