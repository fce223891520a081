"""A lower bound of a kernel's time on a GPU, for leaving out candidates and for nothing else.

A kernel takes as long as its bytes or its operations, whichever is longer (the roofline model of
S. Williams, A. Waterman and D. Patterson, 2009), divided by the share of the GPU's processors that
its programs keep busy, times the share of lanes that only pad.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from funcdl.compiler.cuda.candidates import is_half_product
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.cost import Cost
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import Dot, Kernel, Load, Reduce, operands
from funcdl.kir.kernel_cost import kernel_cost
from funcdl.kir.schedule import Schedule


@dataclass(frozen=True, slots=True)
class GpuModel:
    """What a device can do by its data sheet.

    Bytes a second from memory and from the L2 cache, and the bytes of that; operations a second of
    products of half types, float32 and float64; how many processors, and the bytes of shared memory
    of each.
    """

    bandwidth: float
    cache_bandwidth: float
    cache_bytes: int
    half_rate: float
    float_rate: float
    double_rate: float
    processors: int
    shared_bytes: int


# NVIDIA A100 (SXM, 40 GB) and H100 (SXM): data sheets of 2020 and 2023.
MODELS = {
    80: GpuModel(1.55e12, 4e12, 40 << 20, 312e12, 19.5e12, 19.5e12, 108, 163 << 10),
    90: GpuModel(3.35e12, 7e12, 50 << 20, 989e12, 67e12, 67e12, 132, 227 << 10),
}

_THREADS = 2048  # of a processor at a time
_IN_FLIGHT = 16 << 10  # bytes on their way to a processor that hide the latency of memory
_LAUNCH = 2e-6


def model_of(capability: int) -> GpuModel:
    """The model nearest to a compute capability."""
    return MODELS[90 if capability >= 90 else 80]


def estimate(kernel: Kernel, schedule: Schedule, model: GpuModel) -> float:
    """Seconds of one run at least, about."""
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    extents = {axis.name: axis.extent for axis in kernel.axes}
    lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
    blocks = {s.axis: -(-extents[s.axis] // s.size) for s in schedule.steps if s.kind == "grid"}
    programs = prod(blocks.values())
    if programs == 0:
        return _LAUNCH
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is not None:
        seconds = _product(kernel, dot, schedule, blocks, model)
    else:
        seconds = _stream(kernel, schedule, lanes, programs, model)
    rounds = -(-programs // model.processors)
    busy = programs / (model.processors * rounds)
    padded = prod(
        -(-extents[axis] // size) * size / max(extents[axis], 1) for axis, size in lanes.items()
    )
    return _LAUNCH + seconds * padded / busy


def shared_bytes(kernel: Kernel, schedule: Schedule) -> int:
    """Bytes of shared memory that a product's pipeline needs at least; 0 for other kernels.

    Tiles lie there as wide as they are in memory, whatever the factors are made of them.
    """
    kernel = integer_dot_as_sum(conv_as_dot(kernel))
    dot = next((i for i in kernel.body if isinstance(i, Dot)), None)
    if dot is None:
        return 0
    lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
    loads = [i for i in kernel.body if isinstance(i, Load) and dot.k in i.index.axes()]
    tiles = (prod(lanes.get(a, 1) for a in i.index.axes()) * i.type.dtype.itemsize for i in loads)
    return sum(tiles) * max(schedule.num_stages - 1, 1)


def _product(
    kernel: Kernel, dot: Dot, schedule: Schedule, blocks: dict[str, int], model: GpuModel
) -> float:
    cost = kernel_cost(kernel)
    lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
    programs = prod(blocks.values())
    m, n = lanes[dot.m], lanes[dot.n]
    # Each factor in a register serves a row of the block: small blocks wait for shared memory.
    rate = _rate(kernel, dot, model) * min(1.0, m * n / (m + n) / 64)
    row = kernel.axis(dot.k).extent * _factor_bytes(kernel, dot)
    nbytes = cost.nbytes
    if cost.bytes_read > model.cache_bytes:
        # What runs at a time shares rows and columns of tiles, and the next finds none of them.
        at_a_time = min(model.processors, blocks[dot.m] * blocks[dot.n])
        rows = min(schedule.group, blocks[dot.m])
        columns = min(-(-at_a_time // rows), blocks[dot.n])
        rows = max(rows, -(-at_a_time // columns))
        read = programs / at_a_time * (rows * m + columns * n) * row
        nbytes = max(nbytes, int(read) + cost.bytes_written)
    return max(
        _all_operations(cost) / rate,
        nbytes / model.bandwidth,
        programs * (m + n) * row / model.cache_bandwidth,
    )


def _rate(kernel: Kernel, dot: Dot, model: GpuModel) -> float:
    """Operations a second of a product's kind."""
    if is_half_product(kernel, dot):
        return model.half_rate
    if dot.type.dtype.itemsize == 8:
        return model.double_rate
    # Tensor cores take numbers of 32 bits at half the speed, and products of sums three times.
    rates = {"tf32": model.half_rate / 2, "tf32x3": model.half_rate / 6}
    return rates.get(dot.precision, model.float_rate)


def _stream(
    kernel: Kernel, schedule: Schedule, lanes: dict[str, int], programs: int, model: GpuModel
) -> float:
    cost = kernel_cost(kernel)
    passes = _passes(kernel) if any(s.kind in ("tile", "loop") for s in schedule.steps) else 1
    width = prod(lanes.values())
    resident = min(_THREADS // (32 * schedule.num_warps), -(-programs // model.processors))
    element = max((b.dtype.itemsize for b in kernel.buffers), default=4)
    hidden = min(1.0, max(resident, 1) * width * element / _IN_FLIGHT)
    read = cost.bytes_read * passes + cost.bytes_written
    return max(read / model.bandwidth / hidden, _all_operations(cost) / model.float_rate)


def _passes(kernel: Kernel) -> int:
    """How often a row is read that does not fit into a block: once for each reduction in turn."""
    phases: list[int] = []
    for instruction in kernel.body:
        after = [phases[r] + isinstance(kernel.body[r], Reduce) for r in operands(instruction)]
        phases.append(max(after, default=0))
    return max(phases, default=0) + 1


def _factor_bytes(kernel: Kernel, dot: Dot) -> int:
    return 2 if is_half_product(kernel, dot) else dot.type.dtype.itemsize


def _all_operations(cost: Cost) -> int:
    return max(cost.operations, cost.flops + cost.transcendentals)
