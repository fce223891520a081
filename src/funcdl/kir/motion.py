"""How windows move along one dimension, without the holes that a spread of the elements makes.

Where elements are spread apart (the gradient of a strided convolution), most places of a window
meet no element. Windows whose positions are equal modulo some period meet elements at the same
places: such a *phase* is a plain convolution with part of the kernel, and nothing is multiplied by
zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from funcdl.kir.ir import Conv, Kernel, Slide


@dataclass(frozen=True, slots=True)
class Phase:
    """Windows ``first, first + period, …``, `count` of them.

    `taps` are pairs of a place in the kernel and the element that it meets in window `first`.
    """

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Motion:
    """All windows along one dimension; the next window of a phase is `step` elements further.

    `low` is the least element that the first window of some phase meets, or would, and `extent` how
    many elements further the last one is. Elements outside of the array are zeros.
    """

    windows: int
    size: int
    period: int
    step: int
    low: int
    extent: int
    phases: tuple[Phase, ...]

    def elements(self, windows: int) -> int:
        """How many elements lie between the first and the last that some windows meet."""
        return (-(-windows // self.period) - 1) * self.step + self.extent

    @property
    def inside(self) -> bool:
        """Whether no window meets padding."""
        return self.low >= 0 and self.low + self.elements(self.windows) <= self.size


def find_motion(slide: Slide, windows: int, size: int, places: int) -> Motion:
    """The motion of `windows` windows of `places` places over `size` elements."""
    period = slide.spread // gcd(slide.stride, slide.spread)
    phases = []
    for first in range(min(period, windows)):
        taps = []
        for place in range(places):
            at = first * slide.stride + place * slide.dilation - slide.low
            if at % slide.spread == 0:
                taps.append((place, at // slide.spread))
        phases.append(Phase(first, -(-(windows - first) // period), tuple(taps)))
    met = [element for phase in phases for _, element in phase.taps] or [0]
    step = period * slide.stride // slide.spread
    extent = max(met) - min(met) + 1
    return Motion(windows, size, period, step, min(met), extent, tuple(phases))


STILL = Motion(1, 1, 1, 1, 0, 1, (Phase(0, 1, ((0, 0),)),))
"""Along a dimension that is not there."""


def motions(kernel: Kernel, conv: Conv) -> tuple[Motion, Motion]:
    """Those along the dimensions of a convolution of two at most: rows, then columns."""
    found = [
        find_motion(
            slide,
            kernel.axis(slide.out).extent,
            kernel.axis(slide.lhs).extent,
            kernel.axis(slide.rhs).extent,
        )
        for slide in conv.slides
    ]
    rows, columns = (*found, STILL, STILL)[:2]
    return rows, columns
