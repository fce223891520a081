"""NumPy's functions on immutable, transformable arrays; names and meanings follow `jax.numpy`.

Importing this package also gives arrays and tracers their operators and methods.

Each module lists its public names in its own `__all__`; this one gathers them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funcdl.core.array import Array
from funcdl.numpy import (
    arithmetic,
    contractions,
    creation,
    editing,
    fft,
    functional,
    functions,
    histograms,
    index_tricks,
    indexing,
    input_output,
    joining,
    logic,
    matrices,
    nan_reductions,
    number_parts,
    operators,
    padding,
    polynomials,
    products,
    quantiles,
    reductions,
    repetition,
    searching,
    sets,
    shaping,
    signals,
    sorting,
    splitting,
    statistics,
    types,
    ufunc_methods,
    vectorization,
    window_functions,
)
from funcdl.numpy.arithmetic import *
from funcdl.numpy.contractions import *
from funcdl.numpy.creation import *
from funcdl.numpy.editing import *
from funcdl.numpy.functional import *
from funcdl.numpy.functions import *
from funcdl.numpy.histograms import *
from funcdl.numpy.index_tricks import *
from funcdl.numpy.indexing import *
from funcdl.numpy.input_output import *
from funcdl.numpy.joining import *
from funcdl.numpy.logic import *
from funcdl.numpy.matrices import *
from funcdl.numpy.nan_reductions import *
from funcdl.numpy.number_parts import *
from funcdl.numpy.padding import *
from funcdl.numpy.polynomials import *
from funcdl.numpy.products import *
from funcdl.numpy.quantiles import *
from funcdl.numpy.reductions import *
from funcdl.numpy.repetition import *
from funcdl.numpy.searching import *
from funcdl.numpy.sets import *
from funcdl.numpy.shaping import *
from funcdl.numpy.signals import *
from funcdl.numpy.sorting import *
from funcdl.numpy.splitting import *
from funcdl.numpy.statistics import *
from funcdl.numpy.types import *
from funcdl.numpy.vectorization import *
from funcdl.numpy.window_functions import *

if TYPE_CHECKING:
    from funcdl.numpy import linalg

__all__ = ["Array", "fft", "linalg"]
__all__ += arithmetic.__all__
__all__ += contractions.__all__
__all__ += creation.__all__
__all__ += editing.__all__
__all__ += functional.__all__
__all__ += functions.__all__
__all__ += histograms.__all__
__all__ += index_tricks.__all__
__all__ += indexing.__all__
__all__ += input_output.__all__
__all__ += joining.__all__
__all__ += logic.__all__
__all__ += matrices.__all__
__all__ += nan_reductions.__all__
__all__ += number_parts.__all__
__all__ += padding.__all__
__all__ += polynomials.__all__
__all__ += products.__all__
__all__ += quantiles.__all__
__all__ += reductions.__all__
__all__ += repetition.__all__
__all__ += searching.__all__
__all__ += sets.__all__
__all__ += shaping.__all__
__all__ += signals.__all__
__all__ += sorting.__all__
__all__ += splitting.__all__
__all__ += statistics.__all__
__all__ += types.__all__
__all__ += vectorization.__all__
__all__ += window_functions.__all__


def __getattr__(name: str) -> Any:
    # It builds on `funcdl.lax.linalg`, which comes after this package.
    if name == "linalg":
        return importlib.import_module("funcdl.numpy.linalg")
    raise AttributeError(f"module 'funcdl.numpy' has no attribute {name!r}")


del operators, ufunc_methods  # imported for what they install
