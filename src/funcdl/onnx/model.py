"""`export`: a function as an ONNX model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from funcdl.compiler.naming import program_name
from funcdl.core import tree
from funcdl.core.jaxpr import ClosedJaxpr, Eqn
from funcdl.errors import ArgumentError, MissingRuleError
from funcdl.onnx import bits, elementwise, indexing, pooling, products, reductions, shapes, sorting
from funcdl.onnx.graph import Graph
from funcdl.onnx.messages import model_proto, require_onnx
from funcdl.onnx.translate import Translator, has_type
from funcdl.transforms.jit import JitFunction, jit
from funcdl.transforms.programs import without_unused

RULES = (bits, elementwise, indexing, pooling, products, reductions, shapes, sorting)
"""The modules whose import fills the table of rules."""

_INLINE = 2**30
"""From how many bytes of constants on a file has them beside it: messages end at 2 GiB."""


def export(
    fun: Callable[..., Any],
    *args: Any,
    path: str | PathLike[str] | None = None,
    name: str | None = None,
) -> Any:
    """A function as an ONNX model, which other runtimes load, such as onnxruntime.

    The function is traced with the arguments' types; arrays that it closes over become
    initialisers. Inputs are the leaves of the arguments, named by their paths (``params_w``), and
    outputs those of the result (``out``, ``out_loss``); their documentation has the paths as Python
    writes them. Sizes are fixed: a model has one shape. See docs/deployment.md, which also lists
    what differs between runtimes; operators are of version 18.

    Args:
      fun: what to export, jitted or not.
      *args: its arguments, arrays or `ShapeDtypeStruct`s in pytrees.
      path: the file to write. Constants of 1 GiB and more go to a file beside it.
      name: the graph's name; by default the function's.

    Returns:
      The model, an ``onnx.ModelProto``.

    Raises:
      MissingRuleError: ONNX has no form for some primitives; the message lists them with the lines
        that they come from.
      ArgumentError: the function was called while a transform traced it, and closes over values of
        that transform; it returns no array; or `name` is no name.
      ImportError: the package `onnx` is not installed.
    """
    onnx = require_onnx()
    jitted = fun if isinstance(fun, JitFunction) else jit(fun)
    traced = jitted.trace(*args)
    title: Any = program_name(traced.fun_name) if name is None else name
    if not isinstance(title, str) or not title:
        raise ArgumentError(
            f"onnx.export: name must be a string that is not empty, got {name!r}; leave it out for "
            "the function's own"
        )
    program: ClosedJaxpr = traced.jaxpr
    names = program.jaxpr.names
    assert names is not None
    if not program.out_avals:
        raise ArgumentError(
            f"onnx.export: {title} returns no array, and runtimes load no model without outputs; "
            "return what it computes"
        )
    if traced._staged.captured:
        raise ArgumentError(
            f"onnx.export: {title} was called inside of a transform and closes over values that it "
            "traces, which a model cannot hold. Pass them as arguments, or export the outermost "
            "function"
        )
    graph, docs = _graph(program, names, tree.paths(tree.structure(traced.out_info)), title)
    model = model_proto(graph, title, docs)
    if path is not None:
        _save(onnx, model, Path(path), sum(x.nbytes for x in graph.constants.values()))
    return model


def _save(onnx: Any, model: Any, path: Path, size: int) -> None:
    if size < _INLINE:
        onnx.save_model(model, str(path))
        return
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # what is there would be kept in front
    onnx.save_model(model, str(path), save_as_external_data=True, location=beside.name)
    # Saving took the constants out of the model, which the caller gets whole.
    onnx.load_external_data_for_model(model, str(path.parent))


def _graph(
    program: ClosedJaxpr, names: Sequence[str], paths: Sequence[Any], title: str
) -> tuple[Graph, dict[str, str]]:
    graph, translator, docs = Graph(), Translator(), {}
    for label, aval in zip(names, program.in_avals, strict=True):
        if not has_type(aval):
            raise MissingRuleError(
                f"onnx.export: argument {label} is {aval}, with which ONNX runtimes do not compute"
            )
        value = graph.input(identifier(label), aval.dtype, aval.shape)
        docs[value.name] = label
    outputs = [f"out{tree.format_path(path)}" for path in paths]
    # Results have the first choice of names after the arguments.
    results = [graph.fresh(identifier(label)) for label in outputs]
    found = translator.program(graph, without_unused(program), graph.inputs)
    if translator.refused:
        raise MissingRuleError(_refusal(title, translator.refused))
    for name, label, out in zip(results, outputs, found, strict=True):
        graph.output(name, out)
        docs[name] = label
    return graph, docs


def identifier(label: str) -> str:
    """A path as ONNX wants names, those of C: ``params['w'][0]`` is ``params_w_0``."""
    name = re.sub(r"\W+", "_", label, flags=re.ASCII).strip("_") or "x"
    return f"x_{name}" if name[0].isdigit() else name


def _refusal(title: str, refused: Sequence[tuple[Eqn, str]]) -> str:
    lines = dict.fromkeys(
        f"  {eqn.primitive.name}, at {_place(eqn)}\n    {reason}" for eqn, reason in refused
    )
    return (
        f"onnx.export: {title} cannot be an ONNX model, since these primitives have no form in "
        "it:\n" + "\n".join(lines) + "\nLeave them out of the function, and call them before or "
        "after the model"
    )


def _place(eqn: Eqn) -> str:
    return "an unknown line" if eqn.source is None else eqn.source.describe()
