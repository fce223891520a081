"""Docstrings of elementwise functions, which are generated, say what dtypes come out."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.errors import DtypeError

DTYPE = re.compile(r"he dtype is ([\w, ]+)\.")
FUNCTIONS = {
    name: found[1]
    for name in fnp.__all__
    if getattr(value := getattr(fnp, name), "__module__", "") == "funcdl.numpy"
    and (found := DTYPE.search(inspect.getdoc(value) or ""))
}
BECOME = {"bools": "b", "integers": "iu", "integers and bools": "iub", "complex numbers": "c"}
RESULTS = {"integers": np.integer, "floats": np.floating, "real": np.floating}


def expected(said: str, dtype: np.dtype[Any]) -> Any:
    """The dtype, or kind of dtype, of the result for operands of a dtype."""
    if said == "bool":
        return np.bool_
    change = re.fullmatch(r"kept(?:, but ([\w ]+) become (\w+))?", said)
    assert change, said
    if change[1] and dtypes.kind(dtype) in BECOME[change[1]]:
        return RESULTS[change[2]]
    return dtype.type


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dtypes_are_as_the_docstring_says(name: str) -> None:
    function = getattr(fnp, name)
    count = len(inspect.signature(function).parameters)
    text = inspect.getdoc(function) or ""
    refused = {"b": "bool", "i": "signed int", "u": "unsigned", "f": "floats", "c": "complex"}
    error = re.search(r"DtypeError: an operand holds (.*)\.", text)
    for short in ("bool", "int8", "int32", "uint8", "float16", "bfloat16", "float32", "complex64"):
        dtype = fnp.dtype(short)
        operands = [fd.ShapeDtypeStruct((2,), dtype)] * count
        if error and refused[dtypes.kind(dtype)] in error[1]:
            with pytest.raises(DtypeError):
                fd.eval_shape(function, *operands)
            continue
        out = fd.eval_shape(function, *operands).dtype
        assert fnp.issubdtype(out, expected(FUNCTIONS[name], dtype)), (short, out)


def test_all_elementwise_functions_say_it() -> None:
    assert {"add", "abs", "isnan", "sqrt", "left_shift", "logaddexp"} <= set(FUNCTIONS)
