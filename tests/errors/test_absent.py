"""Names that JAX and other libraries have: what AttributeError says of them."""

from __future__ import annotations

import importlib
import operator
import re
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
from tests.docs import coverage

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core.absent_methods import ABSENT

TABLE = tomllib.loads(coverage.NOTES.read_text())
OTHERS = {place: names for place, names in TABLE.items() if place.startswith("funcdl")}

MESSAGES = {
    "pmap": ", unlike JAX: one device: vmap with an axis name has the same collectives; "
    "funcdl.distributed has those of several processes",
    "export": ", unlike JAX: Lowered.write_library writes a C library, funcdl.onnx.export an ONNX "
    "model; nothing is serialised as StableHLO, or read back",
    "tree_map": ": use tree.map",
    "stop_gradient": ": use funcdl.lax.stop_gradient",
    "numpy.float8_e4m3fn": ", unlike JAX: there are no dtypes of 8 bits or fewer",
    "numpy.trapz": ": use trapezoid",
    "numpy.softmax": ": use funcdl.nn.softmax",
    "lax.psend": ", unlike JAX: use funcdl.distributed.send, between processes",
    "lax.einsum": ": use funcdl.numpy.einsum",
    "nn.Linear": ": layers are functions of their parameters: linear_init and linear_apply",
    "random.shuffle": ": use permutation",
    "scipy.special.hyp2f1": ", unlike JAX: not there yet",
    "nowhere": "",
    "numpy._hidden": "",
    "numpy.linalg.nowhere": None,
}


@pytest.mark.parametrize("path", MESSAGES)
def test_the_message(path: str) -> None:
    place, _, name = f"funcdl.{path}".rpartition(".")
    module = importlib.import_module(place)
    assert not hasattr(module, name)
    with pytest.raises(AttributeError) as refused:
        getattr(module, name)
    assert (refused.value.name, refused.value.obj) == (name, module)
    advice = MESSAGES[path]
    if advice is not None:
        assert str(refused.value) == f"module {place!r} has no attribute {name!r}{advice}"


# Of a module that is left out as a whole, no attribute is asked for.
JAX_PLACES = [place for place in TABLE if place.startswith("jax") and coverage.ours(place)]


@pytest.mark.parametrize("place", [*JAX_PLACES, *OTHERS])
def test_every_reason_is_shown(place: str) -> None:
    module = importlib.import_module(re.sub("^jax", "funcdl", place))
    for name, advice in TABLE[place].items():
        if "*" not in name:
            with pytest.raises(AttributeError, match=re.escape(advice)):
                getattr(module, name)


@pytest.mark.parametrize("place", OTHERS)
def test_what_is_to_be_used_exists(place: str) -> None:
    for advice in OTHERS[place].values():
        names = re.findall(r"funcdl(?:\.[a-z]\w*)+", advice)
        names += [
            f"{place}.{name}" for name in re.findall(r"^use ((?!x\.|funcdl)[a-z][\w.]*)", advice)
        ]
        for name in names:
            operator.attrgetter(name)(SimpleNamespace(funcdl=fd))


def test_submodules_are_imported_as_ever() -> None:
    code = "from funcdl import compiler, kir; import funcdl; print(hasattr(funcdl, 'nothing'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_methods_that_are_absent() -> None:
    x = fnp.ones(3)
    assert not {"numpy", "unsqueeze", "backward"} & {*dir(x)}
    assert not any(hasattr(x, name) for name in ABSENT)
    with pytest.raises(AttributeError, match=r"'JaxprTracer' object has no .* 'unsqueeze': use"):
        fd.jit(lambda a: a.unsqueeze(0))(x)


@pytest.mark.parametrize("advice", sorted(set(ABSENT.values())))
def test_what_is_to_be_used_instead_of_methods_exists(advice: str) -> None:
    for name in re.findall(r"funcdl(?:\.[a-z]\w*)+", advice):
        operator.attrgetter(name)(SimpleNamespace(funcdl=fd))
    for name in re.findall(r"\bx\.(\w+)", advice):
        assert hasattr(fnp.ones(3), name)
