"""Kernel IR to Triton source: hand-written kernels, and those that `Renderer` writes."""

from __future__ import annotations

from funcdl.kernels.triton.library import kernels
from funcdl.kernels.triton.renderer import Renderer
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.dot import integer_dot_as_sum
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule


def render_kernel(kernel: Kernel, schedule: Schedule) -> TritonKernel:
    """Write `kernel` as Triton source, laid out as `schedule` says.

    A convolution becomes an implicit GEMM (`kir.convolution`). Raises `UnsupportedKernel` for what
    Triton cannot express (complex numbers, operations without a Triton spelling, long rows to be
    sorted, ordered updates).
    """
    if kernel.library is not None:
        return kernels.kernel(kernel.library, kernels.tiles_of(schedule))
    return Renderer(integer_dot_as_sum(conv_as_dot(kernel)), schedule).render()
