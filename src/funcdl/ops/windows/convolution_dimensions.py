"""The roles of dimensions in a convolution: how they are written down, checked and worked out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integers
from funcdl.core.records import record
from funcdl.errors import ArgumentError, ShapeError
from funcdl.ops.shape import inverse_permutation
from funcdl.ops.windows.sliding import Padding, Sliding, find_windows

Dims = tuple[int, ...]

_NAMES = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")


class ConvDimensionNumbers(NamedTuple):
    """Where the dimensions of a convolution's arrays are (as in JAX).

    Attributes:
      lhs_spec: the dimensions of lhs: batch, features, then the spatial ones.
      rhs_spec: those of rhs: output features, input features, then the spatial ones.
      out_spec: those of the output: batch, features, then the spatial ones.
    """

    lhs_spec: Dims
    rhs_spec: Dims
    out_spec: Dims


def conv_dimension_numbers(
    lhs_shape: Sequence[int], rhs_shape: Sequence[int], dimension_numbers: Any
) -> ConvDimensionNumbers:
    """Dimension numbers from any way to write them (see `jax.lax.conv_dimension_numbers`).

    Args:
      lhs_shape: shape of lhs; only its length matters.
      rhs_shape: shape of rhs.
      dimension_numbers: None for batch, features, spatial and output features, input features,
        spatial; three strings such as ``("NHWC", "HWIO", "NHWC")``; or the result of this function.

    Raises:
      ShapeError: the shapes differ in length.
      ArgumentError: `dimension_numbers` is nothing of the above, or does not fit the shapes.
    """
    lhs_shape = integers("conv_dimension_numbers: lhs_shape", lhs_shape)
    rhs_shape = integers("conv_dimension_numbers: rhs_shape", rhs_shape)
    ndim = len(lhs_shape)
    if len(rhs_shape) != ndim:
        raise ShapeError(
            "conv_dimension_numbers: lhs and rhs must have equally many dimensions, got shapes "
            f"{tuple(lhs_shape)} and {tuple(rhs_shape)}"
        )
    if isinstance(dimension_numbers, ConvDimensionNumbers):
        return dimension_numbers
    if dimension_numbers is None:
        return ConvDimensionNumbers(*(tuple(range(ndim)),) * 3)
    if (
        not isinstance(dimension_numbers, tuple | list)
        or len(dimension_numbers) != 3
        or not all(isinstance(spec, str) and len(spec) == ndim for spec in dimension_numbers)
    ):
        raise ArgumentError(
            "dimension_numbers must be None, a ConvDimensionNumbers or three strings of "
            f"{ndim} letters, one for each dimension of lhs, rhs and output, got "
            f"{dimension_numbers!r}"
        )
    return ConvDimensionNumbers(*conv_general_permutations(dimension_numbers))


def conv_general_permutations(dimension_numbers: Sequence[str]) -> tuple[Dims, Dims, Dims]:
    """The dimensions that three strings name (see `jax.lax.conv_general_permutations`).

    The spatial ones are in the order of the letters in the second string.

    Raises:
      ArgumentError: a string lacks N and C (the second: O and I), has a letter twice, or has other
        spatial letters than the rest.
    """
    if (
        not isinstance(dimension_numbers, tuple | list)
        or len(dimension_numbers) != 3
        or not all(isinstance(s, str) for s in dimension_numbers)
    ):
        raise ArgumentError(
            "conv_general_permutations: dimension_numbers must be three strings, such as "
            f"('NHWC', 'HWIO', 'NHWC'), got {shortened(dimension_numbers)}"
        )
    wanted = (("N", "C"), ("O", "I"), ("N", "C"))
    spatial = [letter for letter in dimension_numbers[1] if letter not in "OI"]
    for spec, which, (first, second) in zip(
        dimension_numbers, ("lhs", "rhs", "the output"), wanted, strict=True
    ):
        if sorted(spec) != sorted([first, second, *spatial]) or len(set(spec)) != len(spec):
            raise ArgumentError(
                f"dimension_numbers: the string for {which} must have the letters {first}, "
                f"{second} and the spatial ones of that for rhs, each once, "
                f"got {shortened(spec)} in "
                f"{tuple(dimension_numbers)}"
            )
    lhs, rhs, out = (
        tuple(spec.index(letter) for letter in (*roles, *spatial))
        for spec, roles in zip(dimension_numbers, wanted, strict=True)
    )
    return lhs, rhs, out


@record
class Convolution:
    """One convolution, checked and worked out.

    `groups` counts feature or batch groups. `batch` is the batch size of the output, `features` are
    the input features and `outputs` the output features of one group. `windows` slide along the
    spatial dimensions.
    """

    numbers: ConvDimensionNumbers
    groups: int
    batch: int
    features: int
    outputs: int
    windows: Sliding

    @property
    def shape(self) -> Shape:
        """The output's shape."""
        sizes = (self.batch, self.groups * self.outputs, *self.windows.counts)
        return tuple(sizes[i] for i in inverse_permutation(self.numbers.out_spec))


@lru_cache(maxsize=4096)
def find_convolution(
    lhs: Shape,
    rhs: Shape,
    numbers: ConvDimensionNumbers,
    window_strides: Shape,
    padding: Padding,
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    feature_group_count: int,
    batch_group_count: int,
) -> Convolution:
    """The convolution of operands of these shapes.

    Raises:
      ShapeError: the shapes do not fit each other, the dimension numbers or the groups.
      ArgumentError: a parameter is wrong whatever the shapes.
    """
    _check_operands(lhs, rhs, numbers, feature_group_count, batch_group_count)
    batch, _, *sizes = (lhs[d] for d in numbers.lhs_spec)
    outputs, inputs, *window = (rhs[d] for d in numbers.rhs_spec)
    windows = find_windows(
        "conv_general_dilated",
        tuple(sizes),
        tuple(window),
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        _NAMES,
    )
    groups = feature_group_count * batch_group_count
    return Convolution(
        numbers, groups, batch // batch_group_count, inputs, outputs // groups, windows
    )


def _check_operands(
    lhs: Shape,
    rhs: Shape,
    numbers: ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
) -> None:
    """Raise what `find_convolution` does but for errors of the windows."""

    def fail(problem: str) -> None:
        raise ShapeError(
            f"conv_general_dilated: {problem}\n(lhs of shape {lhs}, rhs of shape {rhs}, {numbers})"
        )

    if len(lhs) != len(rhs) or len(lhs) < 2:
        fail("lhs and rhs must have equally many dimensions, two at least")
    for label, spec in zip(numbers._fields, numbers, strict=True):
        if sorted(spec) != list(range(len(lhs))):
            fail(f"{label} must name each of the {len(lhs)} dimensions once, got {spec}")
    for label, count in (
        ("feature_group_count", feature_group_count),
        ("batch_group_count", batch_group_count),
    ):
        if count < 1:
            raise ArgumentError(f"conv_general_dilated: {label} must be positive, got {count}")
    if feature_group_count > 1 and batch_group_count > 1:
        raise ArgumentError(
            "conv_general_dilated: one of feature_group_count and batch_group_count must be 1, got "
            f"{feature_group_count} and {batch_group_count}"
        )
    batch, features = (lhs[d] for d in numbers.lhs_spec[:2])
    outputs, inputs = (rhs[d] for d in numbers.rhs_spec[:2])
    if features != inputs * feature_group_count:
        d, e = numbers.lhs_spec[1], numbers.rhs_spec[1]
        hint = "."
        if features % max(inputs, 1) == 0 and inputs:
            hint = f"; feature_group_count={features // inputs} would fit."
        fail(
            f"lhs must have feature_group_count times as many features as rhs has input features, "
            f"but dimension {d} of lhs has {features} and dimension {e} of rhs has {inputs}, with "
            f"feature_group_count={feature_group_count}{hint} Is the layout the intended one?"
        )
    if outputs % feature_group_count or outputs % batch_group_count:
        label = "feature" if feature_group_count > 1 else "batch"
        fail(
            f"the {outputs} output features (dimension {numbers.rhs_spec[0]} of rhs) must be a "
            f"multiple of {label}_group_count={max(feature_group_count, batch_group_count)}"
        )
    if batch % batch_group_count:
        fail(
            f"the batch size {batch} (dimension {numbers.lhs_spec[0]} of lhs) must be a multiple "
            f"of batch_group_count={batch_group_count}"
        )
