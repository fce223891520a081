"""Integer powers, the logistic function, and whether any lane needs something, for Triton.

See `special.sources`.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

from typing import Any

tl: Any = None
libdevice: Any = None


def fd_any(condition):
    """Whether some lane's condition holds, of a scalar or a block."""
    return tl.max(tl.zeros([1], tl.int32) + condition.to(tl.int32), axis=None) > 0


def fd_integer_power(x, y, BITS: tl.constexpr, SIGNED: tl.constexpr):
    """By squaring; negative powers are 0, but for those of 1 and -1."""
    result = x * 0 + 1
    base = x
    n = tl.where(y > 0, y, y * 0)
    for _ in range(BITS):
        result = tl.where((n & 1) != 0, result * base, result)
        base = base * base
        n = n >> 1
    if SIGNED:
        odd = tl.where((y & 1) != 0, x * 0 - 1, x * 0 + 1)
        inverse = tl.where(x == 1, x, tl.where(x == -1, odd, x * 0))
        result = tl.where(y < 0, inverse, result)
    return result


def fd_logistic(x):
    """By the power that cannot overflow: its inverse would be 0 where the result is subnormal."""
    power = libdevice.exp(-tl.abs(x))
    return libdevice.div_rn(tl.where(x < 0, power, 1.0), 1.0 + power)
