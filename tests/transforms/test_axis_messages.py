"""What named axes, and vmap's axes, say of every mistake: whole messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import ArgumentError, AxisNameError, ShapeError, TreeError

X = fnp.arange(4.0)
M = fnp.ones((4, 3))
GROUPS = "nest two vmaps instead, with a name for the groups and one for the members of a group"


def over(f: Callable[[Any], Any], x: Any = X) -> Any:
    return fd.vmap(f, axis_name="i")(x)


def identity(x: Any) -> Any:
    return x


def add(x: Any, y: Any) -> Any:
    return x


MESSAGES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no axis": (
        lambda: lax.psum(X, "i"),
        AxisNameError,
        "psum: there is no axis named 'i' (no axis has a name here). Call it within a function "
        "that is mapped with vmap(..., axis_name='i')",
    ),
    "other axes": (
        lambda: fd.vmap(
            lambda r: over(lambda x: lax.axis_index("k"), r), axis_name="j", axis_size=2
        )(fnp.ones((2, 4))),
        AxisNameError,
        "axis_index: there is no axis named 'k' (in scope: 'i' (size 4), 'j' (size 2)). Call it "
        "within a function that is mapped with vmap(..., axis_name='k')",
    ),
    "one of several": (
        lambda: over(lambda x: lax.pmean(x, ("i", "k"))),
        AxisNameError,
        "pmean: there is no axis named 'k' (in scope: 'i' (size 4)). Call it within a function "
        "that is mapped with vmap(..., axis_name='k')",
    ),
    "jit outside": (
        lambda: fd.jit(lambda x: lax.all_gather(x, "i"))(X),
        AxisNameError,
        "all_gather: there is no axis named 'i' (no axis has a name here). Call it within a "
        "function that is mapped with vmap(..., axis_name='i')",
    ),
    "a positional axis": (
        lambda: over(lambda x: lax.psum(x, 0)),
        ArgumentError,
        "psum requires axis_name to be a name, such as 'batch', got 0; axes of the array itself "
        "are reduced by sum, max or min of funcdl.numpy",
    ),
    "no hashable": (
        lambda: over(lambda x: lax.pmax(x, {})),
        ArgumentError,
        "pmax requires axis_name to be hashable, got a dict: {}",
    ),
    "a name twice": (
        lambda: over(lambda x: lax.psum(x, ("i", "i"))),
        ArgumentError,
        "psum requires different axis names, got 'i' twice",
    ),
    "groups": (
        lambda: over(lambda x: lax.psum(x, "i", axis_index_groups=[[0, 1], [2, 3]])),
        ArgumentError,
        f"psum does not take axis_index_groups; {GROUPS}, and use the latter",
    ),
    "groups that differ": (
        lambda: over(lambda x: x * lax.psum(1, "i", axis_index_groups=[[0, 1, 2], [3]])),
        ArgumentError,
        "psum requires axis_index_groups of equal sizes that have each number from 0 to 3 once, "
        "for axis 'i'; got [[0, 1, 2], [3]]",
    ),
    "groups that leave members out": (
        lambda: over(lambda x: x * lax.psum(1, "i", axis_index_groups=[[0, 1]])),
        ArgumentError,
        "psum requires axis_index_groups of equal sizes that have each number from 0 to 3 once, "
        "for axis 'i'; got [[0, 1]]",
    ),
    "two destinations": (
        lambda: over(lambda x: lax.ppermute(x, "i", [(0, 1), (0, 2)])),
        ArgumentError,
        "ppermute requires different sources, got 0 more than once in perm=[(0, 1), (0, 2)]; send "
        "with psum or all_gather instead",
    ),
    "two sources": (
        lambda: over(lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)])),
        ArgumentError,
        "ppermute requires different destinations, got 1 more than once in perm=[(0, 1), (2, 1)]; "
        "add them up with psum instead",
    ),
    "out of range": (
        lambda: over(lambda x: lax.ppermute(x, "i", [(0, 1), (4, 2)])),
        ArgumentError,
        "ppermute requires sources from 0 to 3, for axis 'i' of size 4; got 4 in "
        "perm=[(0, 1), (4, 2)]",
    ),
    "no pairs": (
        lambda: over(lambda x: lax.ppermute(x, "i", [1, 0, 3, 2])),  # type: ignore[list-item]
        ArgumentError,
        "ppermute requires perm to have pairs (source, destination), got 1",
    ),
    "two names to permute": (
        lambda: fd.vmap(
            lambda r: over(lambda x: lax.ppermute(x, ("i", "j"), []), r), axis_name="j"
        )(M),
        ArgumentError,
        "ppermute requires one axis name, got ('i', 'j')",
    ),
    "no permutation": (
        lambda: over(lambda x: lax.pshuffle(x, "i", [0, 1, 1, 2])),
        ArgumentError,
        "pshuffle requires perm to have each number from 0 to 3 once, got [0, 1, 1, 2]",
    ),
    "scatter": (
        lambda: over(lambda x: lax.psum_scatter(x, "i"), M),
        ShapeError,
        "psum_scatter requires the size of dimension 0 to be that of axis 'i', 4; got f32[3]. Pass "
        "tiled=True to cut a multiple of it into blocks",
    ),
    "tiled scatter": (
        lambda: over(lambda x: lax.psum_scatter(x, "i", tiled=True), M),
        ShapeError,
        "psum_scatter with tiled=True requires the size of dimension 0 to be a multiple of the "
        "size of axis 'i', 4; got f32[3]",
    ),
    "exchange": (
        lambda: over(lambda x: lax.all_to_all(x, "i", 0, 0), M),
        ShapeError,
        "all_to_all requires the size of dimension 0 to be that of axis 'i', 4; got f32[3]. Pass "
        "tiled=True to cut a multiple of it into blocks",
    ),
    "tiled exchange": (
        lambda: over(lambda x: lax.all_to_all(x, "i", 0, 0, tiled=True), M),
        ShapeError,
        "all_to_all with tiled=True requires the size of dimension 0 to be a multiple of the size "
        "of axis 'i', 4; got f32[3]",
    ),
    "dimension": (
        lambda: over(lambda x: lax.all_gather(x, "i", axis=2), M),
        ArgumentError,
        "all_gather: axis 2 is out of range for an array of 2 dimensions",
    ),
    "a name of vmap": (
        lambda: fd.vmap(identity, axis_name=["i"])(X),  # type: ignore[arg-type]
        ArgumentError,
        "vmap requires axis_name to be hashable, got a list: ['i']",
    ),
    "not the same for all": (
        lambda: fd.vmap(lambda x: {"s": lax.psum(x, "i"), "x": x}, axis_name="i", out_axes=None)(X),
        ArgumentError,
        "vmap got out_axes=None for output['x'] of <lambda>, which depends on the mapped axis; "
        "give an int",
    ),
    "a size": (
        lambda: fd.vmap(identity, axis_size=-1),
        ArgumentError,
        "vmap requires axis_size to be an int from 0 on, got -1",
    ),
    "axis_size": (
        lambda: fd.vmap(add, axis_size=3)(X, fnp.ones(3)),
        ShapeError,
        "vmap of add requires mapped axes of one size, got different ones:\n"
        "  x: f32[4] has size 4 along axis 0\n"
        "  y: f32[3] has size 3 along axis 0\n"
        "  axis_size=3\n"
        "Select other axes with in_axes, or None for arguments to pass whole.",
    ),
    "nothing mapped": (
        lambda: fd.vmap(identity, in_axes=None)(X),
        ArgumentError,
        "vmap of identity maps no argument (every entry of in_axes is None), so the size of the "
        "mapped axis is unknown; pass axis_size",
    ),
    "in_axes of a tree": (
        lambda: fd.vmap(identity, in_axes=({"a": 0, "b": None},))({"a": X}),
        TreeError,
        "vmap requires each entry of in_axes to be a tree prefix of its argument; the entry for x "
        "does not fit:\n  in_axes: {'a': 0, 'b': None}\n  x: {'a': *}",
    ),
    "in_axes out of range": (
        lambda: fd.vmap(identity, in_axes=({"a": -2},))({"a": X}),
        ShapeError,
        "vmap cannot map x['a'] of type f32[4] over axis -2: it has 1 dimension; use None in "
        "in_axes to pass it whole",
    ),
    "number of in_axes": (
        lambda: fd.vmap(add, in_axes=(0,))(X, X),
        ArgumentError,
        "vmap requires in_axes to have one entry for each positional argument of add: got 1 "
        "entries, in_axes=(0,), for 2 arguments",
    ),
    "out_axes of a tree": (
        lambda: fd.vmap(lambda x: (x, x), out_axes=(0, 0, 0))(X),
        TreeError,
        "vmap requires out_axes to be a tree prefix of the output of <lambda>; it does not fit:\n"
        "  out_axes: (0, 0, 0)\n  output: (*, *)",
    ),
    "out_axes out of range": (
        lambda: fd.vmap(lambda x: (x, [x]), out_axes=(0, -2))(X),
        ShapeError,
        "vmap cannot place the mapped axis of output[1][0] of <lambda> at -2: the batched output "
        "has 1 dimension",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    call, kind, message = MESSAGES[name]
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message


def test_errors_are_of_the_builtin_kind_as_well() -> None:
    with pytest.raises(NameError):
        lax.axis_size("i")


def test_spmd_axis_name_changes_nothing() -> None:
    assert fd.vmap(lambda x: x * 2, spmd_axis_name="d")(X).shape == (4,)


def test_axes_explain_cache_misses(caplog: pytest.LogCaptureFixture) -> None:
    f = fd.jit(lambda x: x * 2)
    with fd.explain_cache_misses(), caplog.at_level(logging.WARNING, "funcdl"):
        fd.vmap(f, axis_name="i")(X)
        fd.vmap(fd.vmap(f, axis_name="j"), axis_name="i")(M)
    assert caplog.messages[-1] == (
        "<lambda> was traced again: named axes in scope: now 'j' of size 3, 'i' of size 4 where "
        "'i' of size 4 is cached"
    )
