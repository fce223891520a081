"""How exactly products are computed: what `jax.lax` takes as a precision, and what it means here.

Products are computed in the dtype that `preferred_element_type` or the operands name, and half
types accumulate in float32; an algorithm is accepted for the sake of programs that give one. A
precision says what a GPU may round the factors of a float32 product to, and the highest one that a
CPU sums each window of a convolution by itself.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from funcdl.errors import ArgumentError


class Precision(enum.Enum):
    """How exactly to multiply floats (see `jax.lax.Precision`); products mean the same on a CPU."""

    DEFAULT = 0
    HIGH = 1
    HIGHEST = 2

    def __repr__(self) -> str:
        return f"Precision.{self.name}"


class DotAlgorithm(NamedTuple):
    """An algorithm of products (see `jax.lax.DotAlgorithm`), by its fields' names."""

    lhs_precision_type: Any
    rhs_precision_type: Any
    accumulation_type: Any
    lhs_component_count: int = 1
    rhs_component_count: int = 1
    num_primitive_operations: int = 1
    allow_imprecise_accumulation: bool = False


class DotAlgorithmPreset(enum.Enum):
    """Algorithms of products by name (see `jax.lax.DotAlgorithmPreset`)."""

    DEFAULT = 0
    ANY_F8_ANY_F8_F32 = 1
    ANY_F8_ANY_F8_F32_FAST_ACCUM = 2
    ANY_F8_ANY_F8_ANY = 3
    ANY_F8_ANY_F8_ANY_FAST_ACCUM = 4
    F16_F16_F16 = 5
    F16_F16_F32 = 6
    BF16_BF16_BF16 = 7
    BF16_BF16_F32 = 8
    BF16_BF16_F32_X3 = 9
    BF16_BF16_F32_X6 = 10
    BF16_BF16_F32_X9 = 11
    TF32_TF32_F32 = 12
    TF32_TF32_F32_X3 = 13
    F32_F32_F32 = 14
    F64_F64_F64 = 15

    def __repr__(self) -> str:
        return f"DotAlgorithmPreset.{self.name}"


PrecisionLike = (
    str
    | Precision
    | tuple[str, str]
    | tuple[Precision, Precision]
    | DotAlgorithm
    | DotAlgorithmPreset
    | None
)

_NAMES = frozenset(
    [
        *("default", "high", "highest", "fastest", "float32", "bfloat16", "bfloat16_3x"),
        *("tensorfloat32", *DotAlgorithmPreset.__members__),
    ]
)


def check_precision(name: str, precision: Any) -> None:
    """Raise `ArgumentError` for what JAX would not take for a precision either.

    An empty `name` leaves it to the error to find the function that the user called.
    """
    parts = precision if type(precision) is tuple and len(precision) == 2 else (precision,)
    for part in parts:
        if part is None or isinstance(part, Precision | DotAlgorithm | DotAlgorithmPreset):
            continue
        if isinstance(part, str) and part in _NAMES:
            continue
        raise ArgumentError(
            f"{name + ': ' if name else ''}precision must be None, a lax.Precision or its name "
            "('default', 'high', 'highest'), a pair of these, or a dot algorithm; got "
            f"{precision!r}"
        )


def factor_precision(precision: PrecisionLike) -> str | None:
    """What a precision lets a GPU round the factors of float32 products to (see `kir.ir.Dot`).

    The highest keeps them, a high one takes the sum of two tf32 numbers for each, as JAX does. None
    leaves the choice to ``config.default_matmul_precision``; so do algorithms of half types. Names
    that allow more than tf32 mean tf32.
    """
    if precision is None:  # of every operator, so without the search
        return None
    check_precision("", precision)
    one = precision[0] if type(precision) is tuple and precision else precision
    known = {
        "ieee": (Precision.HIGHEST, "highest", "float32", DotAlgorithmPreset.F32_F32_F32),
        "tf32": ("tensorfloat32", "bfloat16", "fastest", DotAlgorithmPreset.TF32_TF32_F32),
        "tf32x3": (
            *(Precision.HIGH, "high", "bfloat16_3x"),
            DotAlgorithmPreset.TF32_TF32_F32_X3,
        ),
    }
    for name, spellings in known.items():
        presets = [s.name for s in spellings if isinstance(s, DotAlgorithmPreset)]
        if one in spellings or one in presets:
            return name
    return None
