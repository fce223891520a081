"""Kernels with a direct `Conv`: which of its forms a schedule asks for."""

from __future__ import annotations

from funcdl.kernels.cpu_c.conv.depthwise import DepthwiseGradientRenderer, DepthwiseRenderer
from funcdl.kernels.cpu_c.conv.gradient import GradientRenderer
from funcdl.kernels.cpu_c.conv.windows import WindowsRenderer
from funcdl.kernels.cpu_c.conv.winograd import WinogradRenderer
from funcdl.kernels.cpu_c.conv.winograd_gradient import WinogradGradientRenderer
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.convolution import find_conv, in_tiles
from funcdl.kir.ir import Conv, Kernel
from funcdl.kir.schedule import Schedule


def is_direct(kernel: Kernel, schedule: Schedule) -> bool:
    """Whether the kernel has a convolution that the schedule does not see as a product."""
    id = find_conv(kernel)
    if id is None:
        return False
    conv = kernel.body[id]
    assert isinstance(conv, Conv)
    return bool(schedule.of(conv.n) or schedule.of(conv.c))


def render_conv(kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
    """Write the body of the C function of a kernel with a direct convolution (see `is_direct`)."""
    id = find_conv(kernel)
    assert id is not None
    conv = kernel.body[id]
    assert isinstance(conv, Conv)
    is_gradient = bool(schedule.of(conv.c))
    is_depthwise = not schedule.of(conv.o)
    renderer: type[GradientRenderer | WindowsRenderer]
    if is_depthwise:
        renderer = DepthwiseGradientRenderer if is_gradient else DepthwiseRenderer
    elif in_tiles(conv, schedule):
        renderer = WinogradGradientRenderer if is_gradient else WinogradRenderer
    else:
        renderer = GradientRenderer if is_gradient else WindowsRenderer
    renderer(kernel, schedule, writer).render()
