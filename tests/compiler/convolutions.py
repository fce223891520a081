"""Convolutions of every shape: a fixed table, and random ones by a seed or by Hypothesis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core.array import Array
from funcdl.ops.windows.convolution import conv_general_dilated
from funcdl.ops.windows.convolution_dimensions import conv_dimension_numbers
from funcdl.ops.windows.sliding import dilated_size

NDArray = np.ndarray[Any, Any]
LAYOUTS = {
    0: [("NC", "IO", "NC"), ("CN", "OI", "CN")],
    1: [("NHC", "HIO", "NHC"), ("NCH", "OIH", "NCH"), ("HNC", "IHO", "CHN")],
    2: [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("CHWN", "IHWO", "HWNC")],
    3: [("NDHWC", "DHWIO", "NDHWC"), ("NCDHW", "OIDHW", "NCDHW")],
}


@dataclass(frozen=True)
class Case:
    """A convolution: sizes without groups, and what `conv_general_dilated` takes."""

    batch: int
    features: int
    outputs: int
    sizes: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    spread: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    feature_groups: int = 1
    batch_groups: int = 1
    layout: int = 0
    dtype: str = "float32"

    @property
    def params(self) -> dict[str, Any]:
        rank = len(self.sizes)
        ones = (1,) * rank
        names = LAYOUTS[rank][self.layout % len(LAYOUTS[rank])]
        return {
            "window_strides": self.strides or ones,
            "padding": self.padding or ((0, 0),) * rank,
            "lhs_dilation": self.spread or ones,
            "rhs_dilation": self.dilation or ones,
            "dimension_numbers": conv_dimension_numbers(
                (0,) * (rank + 2), (0,) * (rank + 2), names
            ),
            "feature_group_count": self.feature_groups,
            "batch_group_count": self.batch_groups,
            "precision": None,
            "preferred_element_type": None,
        }

    def operands(self, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Random operands of the shapes that the layout asks for."""
        groups = self.feature_groups * self.batch_groups
        numbers = self.params["dimension_numbers"]
        lhs = (
            self.batch * self.batch_groups,
            self.features * self.feature_groups,
            *self.sizes,
        )
        rhs = (self.outputs * groups, self.features, *self.window)
        made = []
        for shape, spec in ((lhs, numbers.lhs_spec), (rhs, numbers.rhs_spec)):
            placed = [0] * len(shape)
            for size, dim in zip(shape, spec, strict=True):
                placed[dim] = size
            made.append(rng.normal(size=placed).astype(self.dtype))
        return made[0], made[1]

    def __call__(self, lhs: Any, rhs: Any) -> Any:
        return conv_general_dilated(lhs, rhs, **self.params)

    def reference(self, lhs: NDArray, rhs: NDArray) -> NDArray:
        """The result in double precision."""
        wide = (lhs.astype(np.float64), rhs.astype(np.float64))
        result: NDArray = conv_general_dilated.impl(*wide, **self.params)  # type: ignore[misc]
        return result

    @property
    def terms(self) -> int:
        """How many products a result is the sum of."""
        return max(math.prod(self.window) * self.features, 1)


def same(window: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(((size - 1) // 2, size // 2) for size in window)


TABLE: dict[str, Case] = {
    "3x3": Case(2, 5, 10, (9, 7), (3, 3), padding=same((3, 3))),
    "3x3, many features": Case(2, 16, 200, (6, 8), (3, 3), padding=same((3, 3))),
    "3x3, odd tiles": Case(3, 70, 130, (5, 4), (3, 3), padding=same((3, 3))),
    "first layer": Case(3, 3, 64, (8, 8), (3, 3), padding=same((3, 3))),
    "last layer": Case(3, 32, 4, (9, 8), (3, 3), (2, 1), same((3, 3))),
    "one feature": Case(2, 16, 1, (9, 8), (5, 2), padding=same((5, 2)), layout=1),
    "two features in groups": Case(2, 48, 2, (7, 6), (3, 3), feature_groups=3),
    "valid": Case(2, 8, 33, (9, 9), (3, 2)),
    "strided": Case(2, 8, 16, (9, 8), (3, 3), (2, 2), same((3, 3))),
    "strided, odd": Case(1, 3, 7, (11, 5), (4, 3), (3, 1), ((2, 1), (0, 1))),
    "1x1": Case(2, 6, 9, (5, 4), (1, 1)),
    "1x1, strided": Case(2, 6, 9, (5, 4), (1, 1), (2, 2)),
    "whole image": Case(2, 3, 5, (4, 6), (4, 6)),
    "dilated": Case(2, 4, 6, (12, 10), (3, 3), padding=((2, 2), (4, 0)), dilation=(2, 3)),
    "spread": Case(2, 4, 6, (5, 4), (3, 3), padding=((2, 2), (1, 3)), spread=(2, 3)),
    "spread and strided": Case(1, 2, 3, (7, 6), (4, 3), (2, 3), ((3, 2), (2, 2)), (4, 2), (1, 3)),
    "spread beyond the window": Case(
        1, 2, 3, (3, 4), (2, 1), padding=((1, 1), (0, 2)), spread=(4, 3)
    ),
    "negative padding": Case(1, 4, 5, (8, 9), (3, 3), padding=((-1, -2), (-2, 1))),
    "padding beyond the image": Case(1, 2, 3, (2, 1), (3, 2), padding=((5, 4), (3, 6))),
    "feature groups": Case(2, 3, 5, (6, 5), (3, 3), padding=same((3, 3)), feature_groups=4),
    "batch groups": Case(2, 3, 5, (6, 5), (3, 3), padding=same((3, 3)), batch_groups=3),
    "depthwise": Case(2, 1, 1, (9, 8), (3, 3), padding=same((3, 3)), feature_groups=40),
    "depthwise, strided": Case(2, 1, 1, (9, 8), (3, 5), (2, 2), same((3, 5)), feature_groups=17),
    "depthwise, twofold": Case(2, 1, 2, (5, 6), (3, 3), padding=same((3, 3)), feature_groups=6),
    "channels first": Case(2, 5, 10, (9, 7), (3, 3), padding=same((3, 3)), layout=1),
    "strange layout": Case(2, 5, 10, (9, 7), (3, 3), (1, 2), same((3, 3)), layout=2),
    "channels first, depthwise": Case(
        2, 1, 1, (6, 7), (3, 3), padding=same((3, 3)), feature_groups=5, layout=1
    ),
    "1-D": Case(3, 4, 8, (40,), (5,), (2,), ((2, 2),)),
    "1-D, long": Case(1, 3, 5, (1500,), (9,), padding=((4, 4),)),
    "1-D, channels first": Case(2, 4, 6, (30,), (3,), padding=((1, 1),), dilation=(4,), layout=1),
    "3-D": Case(2, 3, 4, (4, 5, 6), (3, 2, 3), (1, 2, 1), ((1, 1), (0, 1), (1, 1))),
    "no windows": Case(2, 3, 4, (2, 2), (3, 3)),
    "no features": Case(2, 0, 4, (5, 5), (3, 3)),
    "no images": Case(0, 3, 4, (5, 5), (3, 3)),
    "no dimensions": Case(3, 4, 5, (), ()),
    "no dimensions, groups": Case(3, 4, 5, (), (), feature_groups=2),
    "tiles": Case(4, 24, 32, (8, 8), (3, 3), padding=same((3, 3))),
    "tiles, odd": Case(5, 72, 130, (11, 9), (3, 3), padding=same((3, 3))),
    "tiles, inside": Case(3, 96, 80, (11, 12), (3, 3)),
    "tiles, long rows": Case(2, 68, 126, (7, 70), (3, 3), padding=((0, 2), (2, 1))),
    "tiles, far padding": Case(4, 96, 120, (12, 13), (3, 3), padding=((2, 1), (1, 2))),
    "tiles, cut": Case(5, 96, 80, (15, 14), (3, 3), padding=((-1, 1), (1, -2))),
    "tiles, small images": Case(19, 96, 96, (6, 5), (3, 3), padding=same((3, 3))),
    "tiles in groups": Case(4, 32, 40, (8, 8), (3, 3), padding=same((3, 3)), feature_groups=2),
    "tiles, channels first": Case(5, 40, 48, (9, 8), (3, 3), padding=same((3, 3)), layout=1),
    "tiles, strange layout": Case(6, 72, 100, (8, 11), (3, 3), padding=same((3, 3)), layout=2),
    "tiles in double precision": Case(
        6, 40, 48, (8, 9), (3, 3), padding=same((3, 3)), dtype="float64"
    ),
    "double precision": Case(2, 5, 19, (9, 7), (3, 3), padding=same((3, 3)), dtype="float64"),
    "double precision, last layer": Case(
        2, 24, 3, (9, 7), (3, 3), padding=same((3, 3)), dtype="float64"
    ),
    "double precision, strided": Case(
        2, 6, 40, (9, 7), (3, 3), (2, 2), same((3, 3)), dtype="float64"
    ),
}


def random_case(rng: np.random.Generator) -> Case:
    """A small convolution with any parameters."""
    rank = int(rng.choice([1, 2, 2, 2, 2, 3]))

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(rng.integers(low, high + 1)) for _ in range(rank))

    sizes, window = numbers(1, 7), numbers(1, 4)
    rare = rng.random(3) < 0.3
    spread = numbers(1, 3) if rare[0] else (1,) * rank
    dilation = numbers(1, 3) if rare[1] else (1,) * rank
    padding = []
    for size, apart, low in zip(sizes, spread, numbers(-1, 3), strict=True):
        high = int(rng.integers(-1, 4))
        padding.append((low, max(high, -(dilated_size(size, apart) + low))))
    groups = int(rng.integers(2, 5)) if rare[2] else 1
    in_batch = bool(rng.integers(0, 2))
    return Case(
        int(rng.integers(1, 4)),
        int(rng.choice([1, 2, 3, 5, 17])),
        int(rng.choice([1, 2, 4, 9, 35, 70])),
        sizes,
        window,
        numbers(1, 3) if rng.random() < 0.5 else (1,) * rank,
        tuple(padding),
        spread,
        dilation,
        1 if in_batch else groups,
        groups if in_batch else 1,
        int(rng.choice([0, 0, 0, 1, 2])),
    )


def error(found: Any, wanted: NDArray, case: Case) -> float:
    """The largest error, in roundings of a sum of as many terms as a result has."""
    eps = float(np.finfo(case.dtype).eps)
    found = np.asarray(found.value if isinstance(found, Array) else found, np.float64)
    assert found.shape == wanted.shape
    if not wanted.size:
        return 0.0
    scale = max(float(np.abs(wanted).max()), math.sqrt(case.terms))
    return float(np.abs(found - wanted).max()) / (scale * eps * math.sqrt(case.terms))
