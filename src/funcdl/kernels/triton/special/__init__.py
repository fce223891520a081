"""Functions that Triton lacks, in its language; but for `fd_logistic`, those of real numbers are in
float64, as in C headers.

The renderer copies the text of a function, and of those that it calls, in front of the kernels that
use it; nothing here runs in Python. Every lane computes all regions that some lane of its block is
in, and takes what is its own. Triton reads the functions' text; annotations but `tl.constexpr` mean
nothing to it. The sources of the formulas stand in fd_special.h, fd_gamma.h and fd_beta.h. digamma
(Abramowitz and Stegun 6.3.5, 6.3.7, 6.3.18) and the Bessel functions (DLMF 10.25.2, 10.40.1) are
plain series here, unlike in fd_lgamma.h and fd_bessel.h: float32 rounds them.
"""

from __future__ import annotations

import inspect
import re
from functools import cache

from funcdl.kernels.triton.special import basic, bessel, beta, gamma, zeta

_FUNCTIONS = {
    name: function
    for module in (basic, bessel, beta, gamma, zeta)
    for name, function in vars(module).items()
    if name.startswith("fd_")
}


def sources(expression: str) -> dict[str, str]:
    """The functions of this package that a text calls, and theirs, each after those it calls."""
    found: dict[str, str] = {}
    for name in re.findall(r"\bfd_\w+(?=\()", expression):
        text = _source(name)
        found |= sources(text.split("\n", 1)[1])
        found[name] = text
    return found


@cache
def _source(name: str) -> str:
    text = inspect.getsource(_FUNCTIONS[name])
    return re.sub(r'\n    """.*?"""', "", text, count=1, flags=re.DOTALL)
