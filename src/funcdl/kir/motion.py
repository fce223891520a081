"""How windows move along one dimension, without the products that are zero by construction.

Windows that meet elements at the same places of the kernel form a *class*: a plain convolution with
part of the kernel. Classes differ for two reasons. Where elements are spread apart (the gradient of
a strided convolution), a window meets elements at every few places only, and which these are
repeats with a period. And windows near an end reach beyond the elements with some of their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import gcd, prod

from funcdl.core.records import record
from funcdl.kir.ir import Conv, Kernel, Slide

# Windows that share a class are computed six or four at a time, those of different images together.
WINDOWS = 512
# What a window and a class cost beside their products.
WINDOW_COST = 5
CLASS_COST = 600
MANY_FEATURES = 512


@record
class WindowClass:
    """Windows ``first, first + period, …``, `count` of them, that meet `taps` elements.

    The first of them meets `element` at `place` in the kernel.
    """

    first: int
    count: int
    place: int = 0
    element: int = 0
    taps: int = 0


@record
class Motion:
    """All windows along one dimension.

    The next window of a class meets elements `step` further; the next tap of a window is
    `place_step` places and `element_step` elements further. The elements that some window meets
    begin at `low`; those that the first row of windows meets have `extent` positions. `clipped`
    says that no tap meets padding; otherwise elements outside of the array are read as zeros.
    """

    windows: int
    size: int
    places: int
    period: int
    step: int
    place_step: int
    element_step: int
    low: int
    extent: int
    clipped: bool
    classes: tuple[WindowClass, ...]

    def elements(self, windows: int) -> int:
        """How many elements lie between the first and the last that some windows meet."""
        return (-(-windows // self.period) - 1) * self.step + self.extent

    @property
    def inside(self) -> bool:
        """Whether no tap meets padding."""
        return self.clipped or (
            self.low >= 0 and self.low + self.elements(self.windows) <= self.size
        )


def find_motion(slide: Slide, windows: int, size: int, places: int, clipped: bool) -> Motion:
    """The motion of `windows` windows of `places` places over `size` elements."""
    spread = slide.spread
    period = spread // gcd(slide.stride, spread)
    step = period * slide.stride // spread
    place_step = spread // gcd(slide.dilation, spread)
    element_step = place_step * slide.dilation // spread
    classes: list[WindowClass] = []
    met = []
    for first in range(min(period, windows)):
        offset = first * slide.stride - slide.low
        taps = [
            (place, (offset + place * slide.dilation) // spread)
            for place in range(places)
            if (offset + place * slide.dilation) % spread == 0
        ]
        met += [element for _, element in taps]
        count = -(-(windows - first) // period)
        found: list[tuple[int, int, int]] = []  # the first window, and its first and last tap
        for number in _near_ends(taps, step, size, count) if clipped else (0,):
            start, end = 0, len(taps)
            while clipped and start < end and taps[start][1] + number * step < 0:
                start += 1
            while clipped and start < end and taps[end - 1][1] + number * step >= size:
                end -= 1
            if not found or found[-1][1:] != (start, end):
                found.append((number, start, end))
        limits = [number for number, _, _ in found[1:]] + [count]
        for (number, start, end), limit in zip(found, limits, strict=True):
            begins = first + number * period
            if start == end:
                classes.append(WindowClass(begins, limit - number))
                continue
            place, element = taps[start]
            element += number * step
            classes.append(WindowClass(begins, limit - number, place, element, end - start))
    met = met or [0]
    return Motion(
        windows,
        size,
        places,
        period,
        step,
        place_step,
        element_step,
        min(met),
        max(met) - min(met) + 1,
        clipped,
        tuple(classes),
    )


def _near_ends(taps: Sequence[tuple[int, int]], step: int, size: int, count: int) -> Iterator[int]:
    """The first of `count` windows, those that reach beyond an end, and the first that does not."""
    if not taps:
        yield 0
        return
    inside = max(-(taps[0][1] // step), 0)
    beyond = max(-((taps[-1][1] - size) // step), inside + 1)
    yield from range(min(inside + 1, count))
    yield from range(beyond, count)


STILL = Motion(1, 1, 1, 1, 1, 1, 1, 0, 1, True, (WindowClass(0, 1, 0, 0, 1),))
"""Along a dimension that is not there."""


def motions(kernel: Kernel, conv: Conv) -> tuple[Motion, Motion]:
    """Those along the dimensions of a convolution of two at most: rows, then columns.

    Taps on padding are left out where that saves more than small classes of windows cost.
    """
    slides = tuple(
        (slide, *(kernel.axis(axis).extent for axis in (slide.out, slide.lhs, slide.rhs)))
        for slide in conv.slides
    )
    features = kernel.axis(conv.c).extent
    if features == kernel.axis(conv.o).extent == 1:
        # Depthwise: a padded copy costs more than the products with padding.
        features = MANY_FEATURES
    return _motions(slides, kernel.axis(conv.n).extent, features)


@lru_cache(maxsize=1024)
def _motions(
    slides: tuple[tuple[Slide, int, int, int], ...], n: int, features: int
) -> tuple[Motion, Motion]:
    found = []
    for clipped in (True, False):
        along = [find_motion(*slide, clipped) for slide in slides]
        rows, columns = (*along, STILL, STILL)[:2]
        found.append((rows, columns))
    images = max(1, min(n, WINDOWS // max(prod(m.windows for m in found[0]), 1)))
    return min(found, key=lambda pair: cost_of_windows(pair[0], pair[1], images, features))


def cost_of_windows(rows: Motion, columns: Motion, images: int, features: int) -> int:
    """The cost of all windows of some images, in terms of one window."""
    return sum(
        CLASS_COST
        + windows_computed(images * row.count * column.count)
        * (row.taps * column.taps * features + WINDOW_COST)
        for row in rows.classes
        for column in columns.classes
    )


def windows_computed(windows: int) -> int:
    """How many windows micro-tiles of six and of four compute for so many."""
    return max(windows + windows % 2, 4)
