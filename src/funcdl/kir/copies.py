"""Kernels that only copy an array to where it may already be.

A scatter copies its operand and updates the copy. Where the result has taken over the operand's
memory, the copy has nothing to do; that is known when the kernel is called, since a caller may not
have given the memory up.
"""

from __future__ import annotations

import numpy as np

from funcdl.kir.ir import Cast, Kernel, Load, Store


def copied_in_place(kernel: Kernel) -> tuple[str, str] | None:
    """The buffers of such a kernel, where to and where from; None for any other."""
    if not all(isinstance(i, Load | Cast | Store) for i in kernel.body):
        return None
    loads = [i for i in kernel.body if isinstance(i, Load)]
    stores = [i for i in kernel.body if isinstance(i, Store)]
    if len(loads) != 1 or len(stores) != 1:
        return None
    (load,), (store,) = loads, stores
    source, target = kernel.buffer(load.buffer), kernel.buffer(store.buffer)
    # Values of a half type are widened and narrowed again, which changes none of them.
    casts = [i.type.dtype for i in kernel.body if isinstance(i, Cast)]
    same = load.index == store.index and load.mask is None and source.dtype == target.dtype
    same = same and all(np.can_cast(source.dtype, dtype) for dtype in casts)
    return (target.name, source.name) if same and source.may_alias and target.may_alias else None
