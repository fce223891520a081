"""The public function: names, files, constants, errors."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.onnx.models import checked, compare, onnx, onnxruntime, run

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import random
from funcdl.errors import ArgumentError, MissingRuleError
from funcdl.onnx import export, model

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Layer(NamedTuple):
    w: Any
    b: Any


def test_names_are_paths() -> None:
    def predict(layers: Any, x: Any, *rest: Any) -> Any:
        for layer in layers:
            x = x @ layer.w + layer.b
        return {"logits": x, "parts": (x + rest[0]["in put"], x * 2)}

    layers = [Layer(np.ones((3, 3), np.float32), np.ones(3, np.float32))]
    made = checked(export(predict, layers, X, {"in put": np.float32(1)}))
    assert made.graph.name == "predict"
    assert [x.name for x in made.graph.input] == [
        "layers_0_0",
        "layers_0_1",
        "x",
        "rest_0_in_put",
    ]
    assert [x.name for x in made.graph.output] == ["out_logits", "out_parts_0", "out_parts_1"]
    docs = {x.name: x.doc_string for x in (*made.graph.input, *made.graph.output)}
    assert docs["rest_0_in_put"] == "rest[0]['in put']"
    assert docs["out_parts_0"] == "out['parts'][0]"


def test_names_that_meet_are_told_apart() -> None:
    made = checked(export(lambda p, p_a, out: p["a"] + p_a + out, {"a": X}, X, X))
    names = [x.name for x in (*made.graph.input, *made.graph.output)]
    assert len(set(names)) == 4
    assert names[0] == "p_a"


def test_arguments_that_are_not_read_stay() -> None:
    assert len(compare(lambda x, y: x, X, X).graph.input) == 2


def test_types_are_enough() -> None:
    made = export(lambda x: x + 1, fd.ShapeDtypeStruct((2, 3), np.float32))
    np.testing.assert_array_equal(run(made, X)[0], X + 1)


def test_static_arguments_of_a_jitted_function() -> None:
    @functools.partial(fd.jit, static_argnums=1)
    def scaled(x: Any, factor: float) -> Any:
        return x * factor

    made = export(scaled, X, 3.0)
    assert [x.name for x in made.graph.input] == ["x"]
    np.testing.assert_array_equal(run(made, X)[0], X * 3)


def test_outputs_that_are_inputs_constants_or_each_other() -> None:
    def run_all(x: Any) -> Any:
        y = x + 1
        return x, x, fnp.arange(3), fnp.zeros((2, 0)), y, y, fnp.broadcast_to(1.0, (2, 3))

    compare(run_all, X)


def test_constants_are_kept_once_and_only_if_read() -> None:
    weights, unused = np.ones((3, 3), np.float32), fnp.full((100, 100), 7.0)

    def predict(x: Any) -> Any:
        unused.sum()
        return x @ weights @ fnp.asarray(weights)

    made = compare(predict, X)
    assert [len(x.raw_data) for x in made.graph.initializer] == [weights.nbytes]


@pytest.mark.parametrize("beside", [False, True])
def test_files(beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if beside:
        monkeypatch.setattr(model, "_INLINE", 0)
    weights = np.arange(30000, dtype=np.float32).reshape(3, 10000)
    path = tmp_path / "model.onnx"
    (tmp_path / "model.onnx.data").write_bytes(b"of an older model")
    made = export(lambda x: x @ weights, X, path=path)
    assert made.graph.initializer[0].raw_data, "what is returned is whole in both cases"
    assert (path.stat().st_size < 10000) == beside
    onnx.checker.check_model(str(path), full_check=True)
    loaded = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(loaded.run(None, {"x": X})[0], X @ weights, rtol=1e-6)


def test_every_refused_primitive_is_named_with_its_line() -> None:
    def f(x: Any) -> Any:
        y = fnp.linalg.svd(x, compute_uv=False)
        return random.uniform(random.key(0), (3,)) + y.sum()

    with pytest.raises(MissingRuleError) as caught:
        export(f, X)
    text = str(caught.value)
    assert re.search(r"svd, at .*test_export\.py:\d+ \(.*\): y = fnp\.linalg\.svd", text)
    assert re.search(r"bitcast_convert_type, at .*: return random\.uniform", text)
    assert "reads the bits of floats" in text


def test_refused_within_loops() -> None:
    def f(xs: Any) -> Any:
        return fd.lax.map(lambda x: fd.lax.cond(x.sum() > 0, fd.lax.lgamma, lambda y: y, x), xs)

    with pytest.raises(MissingRuleError, match=r"lgamma, at .*test_export.py:\d+"):
        export(f, X)


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(MissingRuleError, match="do not compute with c64"):
        export(lambda x: (x + 1j).real, X)
    with pytest.raises(MissingRuleError, match="argument z is c64"):
        export(lambda z: z, X.astype(np.complex64))


def test_models_without_a_name_or_results_are_refused() -> None:
    with pytest.raises(ArgumentError, match="name must be a string that is not empty, got ''"):
        export(lambda x: x, X, name="")
    with pytest.raises(ArgumentError, match=r"forgetful returns no array, .* return what it comp"):

        def forgetful(x: Any) -> None:
            x.sum()

        export(forgetful, X)


def test_callbacks_are_refused() -> None:
    def f(x: Any) -> Any:
        fd.debug.print("{}", x)
        return x

    with pytest.raises(MissingRuleError, match=r"callback, at .*test_export.py:\d+"):
        export(f, X)


def test_values_of_a_transform_cannot_be_held() -> None:
    def f(x: Any) -> Any:
        export(lambda y: x * y, X)
        return x.sum()

    with pytest.raises(ArgumentError, match="closes over values that it traces"):
        fd.grad(f)(X)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'funcdl\[onnx\]'"):
        export(lambda x: x, X)
