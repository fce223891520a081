"""NumPy's functions on immutable, transformable arrays; names and meanings follow `jax.numpy`.

Importing this package also gives arrays and tracers their operators and methods.

Each module lists its public names in its own `__all__`; this one gathers them. Modules that most
programs do without are imported when one of their names is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funcdl.absent import absent_name
from funcdl.core.array import Array
from funcdl.numpy import (
    arithmetic,
    creation,
    functions,
    indexing,
    joining,
    logic,
    matrices,
    operators,
    products,
    ranges,
    reductions,
    repetition,
    searching,
    shaping,
    sorting,
    statistics,
    types,
    ufunc_methods,
)
from funcdl.numpy.arithmetic import *
from funcdl.numpy.creation import *
from funcdl.numpy.functions import *
from funcdl.numpy.indexing import *
from funcdl.numpy.joining import *
from funcdl.numpy.logic import *
from funcdl.numpy.matrices import *
from funcdl.numpy.products import *
from funcdl.numpy.ranges import *
from funcdl.numpy.reductions import *
from funcdl.numpy.repetition import *
from funcdl.numpy.searching import *
from funcdl.numpy.shaping import *
from funcdl.numpy.sorting import *
from funcdl.numpy.statistics import *
from funcdl.numpy.types import *

if TYPE_CHECKING:
    from funcdl.numpy import fft, linalg
    from funcdl.numpy.contractions import *
    from funcdl.numpy.editing import *
    from funcdl.numpy.functional import *
    from funcdl.numpy.histograms import *
    from funcdl.numpy.index_tricks import *
    from funcdl.numpy.input_output import *
    from funcdl.numpy.nan_reductions import *
    from funcdl.numpy.number_parts import *
    from funcdl.numpy.padding import *
    from funcdl.numpy.polynomials import *
    from funcdl.numpy.quantiles import *
    from funcdl.numpy.sets import *
    from funcdl.numpy.signals import *
    from funcdl.numpy.splitting import *
    from funcdl.numpy.vectorization import *
    from funcdl.numpy.window_functions import *

_LATER = {
    "contractions": "einsum einsum_path",
    "editing": "delete fill_diagonal insert place put put_along_axis resize trim_zeros",
    "functional": "apply_along_axis apply_over_axes choose fromfunction piecewise",
    "histograms": "bincount digitize histogram histogram2d histogram_bin_edges histogramdd",
    "index_tricks": (
        "c_ diag_indices_from index_exp indices ix_ mask_indices mgrid ogrid r_ "
        "ravel_multi_index s_ tril_indices_from triu_indices_from unravel_index"
    ),
    "input_output": (
        "array_repr array_str from_dlpack frombuffer fromfile fromiter fromstring "
        "get_printoptions load printoptions save savez set_printoptions"
    ),
    "nan_reductions": (
        "nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmin nanprod nanstd nansum "
        "nanvar"
    ),
    "number_parts": (
        "bitwise_count frexp gcd iscomplex isreal lcm ldexp modf packbits sinc spacing unpackbits"
    ),
    "padding": "pad",
    "polynomials": (
        "poly polyadd polyder polydiv polyfit polyint polymul polysub polyval roots vander"
    ),
    "quantiles": "median nanmedian nanpercentile nanquantile percentile quantile",
    "sets": (
        "intersect1d isin setdiff1d setxor1d union1d unique unique_all unique_counts "
        "unique_inverse unique_values"
    ),
    "signals": "convolve correlate diff ediff1d gradient interp trapezoid unwrap",
    "splitting": "array_split dsplit hsplit split unstack vsplit",
    "vectorization": "vectorize",
    "window_functions": "bartlett blackman hamming hanning kaiser",
}
_MODULES = {name: module for module, names in _LATER.items() for name in names.split()}

__all__ = ["Array", "fft", "linalg"]
__all__ += _MODULES
__all__ += arithmetic.__all__
__all__ += creation.__all__
__all__ += functions.__all__
__all__ += indexing.__all__
__all__ += joining.__all__
__all__ += logic.__all__
__all__ += matrices.__all__
__all__ += products.__all__
__all__ += ranges.__all__
__all__ += reductions.__all__
__all__ += repetition.__all__
__all__ += searching.__all__
__all__ += shaping.__all__
__all__ += sorting.__all__
__all__ += statistics.__all__
__all__ += types.__all__


def __getattr__(name: str) -> Any:
    # `linalg` builds on `funcdl.lax.linalg`, which comes after this package.
    if name in ("fft", "linalg"):
        return importlib.import_module(f"funcdl.numpy.{name}")
    if name not in _MODULES:
        raise absent_name(__name__, name)
    value = getattr(importlib.import_module(f"funcdl.numpy.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


del operators, ufunc_methods  # imported for what they install
