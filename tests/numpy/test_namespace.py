"""The package's names: complete, and its rarely used modules imported when first needed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import funcdl.numpy as fnp
from funcdl.numpy import _LATER


@pytest.mark.parametrize("module", _LATER)
def test_the_table_of_later_imports_has_all_names_of_each_module(module: str) -> None:
    names = _LATER[module].split()
    imported = importlib.import_module(f"funcdl.numpy.{module}")
    assert sorted(imported.__all__) == sorted(names)
    assert {*names} <= {*dir(fnp)} & {*fnp.__all__}
    for name in names:
        assert getattr(fnp, name) is getattr(imported, name)


def test_names_are_listed_once_and_others_refused() -> None:
    assert len(fnp.__all__) == len(set(fnp.__all__))
    with pytest.raises(AttributeError, match=r"'funcdl\.numpy' has no attribute 'medium'"):
        fnp.medium  # noqa: B018  # the access raises


def run(code: str) -> set[str]:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_a_module_is_imported_by_its_first_name() -> None:
    report = "; print(*(name[13:] for name in sys.modules if name.startswith('funcdl.numpy.')))"
    assert run("import sys, funcdl" + report).isdisjoint({*_LATER, "fft", "linalg"})
    code = "import sys, funcdl.numpy as fnp; fnp.median, fnp.fft.fft"
    assert run(code + report) & {*_LATER, "fft", "linalg"} == {"quantiles", "fft"}


def test_imports_in_a_traced_function_record_nothing() -> None:
    code = """
import funcdl as fd, funcdl.numpy as fnp
jaxpr = fd.make_jaxpr(lambda x: [x for name in fnp.__all__ if getattr(fnp, name) is None])(1.0)
assert fnp.median(fnp.arange(3.0)) == 1
print(len(jaxpr.eqns))
"""
    assert run(code) == {"0"}


def test_a_star_import_brings_every_name() -> None:
    code = "before = {*globals()}; from funcdl.numpy import *; print(*({*globals()} - before))"
    assert run(code) >= {*fnp.__all__}
