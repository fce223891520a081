"""A kernel without the names that its program gave it: equal work has equal text."""

from __future__ import annotations

from dataclasses import replace

from funcdl.kir.ir import AtomicUpdate, Kernel, Load, Store


def canonical_kernel(kernel: Kernel) -> Kernel:
    """The kernel as ``k``, its buffers ``b0``, ``b1``, … in their order."""
    names = {buffer.name: f"b{i}" for i, buffer in enumerate(kernel.buffers)}
    body = tuple(
        replace(i, buffer=names[i.buffer]) if isinstance(i, Load | Store | AtomicUpdate) else i
        for i in kernel.body
    )
    buffers = tuple(replace(b, name=names[b.name]) for b in kernel.buffers)
    return replace(kernel, name="k", buffers=buffers, body=body)
