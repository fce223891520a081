"""Attention in GPU programs: hand-written kernels in the place of its composition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.attention_cases import problem
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.library import attention_forward
from funcdl.nn import attention as attention_module
from funcdl.ops.attention import attention

FORWARD, BACKWARD = "attention_forward", {"attention_query_gradient", "attention_key_gradient"}


def attend(query: Any, key: Any, value: Any, *extras: Any, **options: Any) -> Any:
    params = {"scale": 0.3, "before": None, "after": 0, "extra_names": ()}
    params |= {"dropout_rate": 0.0} | options
    return attention.bind(query, key, value, *extras, **params)[0]


def loss(query: Any, key: Any, value: Any) -> Any:
    return fnp.sum(attend(query, key, value) ** 2)


def inputs(dtype: Any = np.float32, keys: int = 9) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = (2, 9, 4, 8), (2, keys, 2, 8), (2, keys, 2, 8)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def scan_of_layers(query: Any, key: Any, value: Any) -> Any:
    def layer(x: Any, _: Any) -> Any:
        return attend(x, key, value) + x, None

    return lax.scan(layer, query, None, length=3)[0]


def masked(query: Any, key: Any, value: Any) -> Any:
    mask = fnp.arange(9)[:, None] % 3 != fnp.arange(9)[None, :] % 2
    bias = fnp.ones((1, 4, 1, 9)) * fnp.arange(9)
    names = ("mask", "bias")
    return attend(query, key, value, mask[None, None], bias, before=4, extra_names=names)


def dropped(query: Any, key: Any, value: Any) -> Any:
    """With a window in which the last queries see no key."""
    options = {"local_window_size": (2, 0), "dropout_rate": 0.4, "dropout_rng": fd.random.key(3)}
    before, attention_module.BLOCKWISE_FROM = attention_module.BLOCKWISE_FROM, 1
    try:
        return nn.dot_product_attention(query, key[:, :5], value[:, :5], **options)
    finally:
        attention_module.BLOCKWISE_FROM = before


def dropped_loss(query: Any, key: Any, value: Any) -> Any:
    return fnp.sum(dropped(query, key, value) ** 2)


def packed_loss(query: Any, key: Any, value: Any) -> Any:
    """Of parts of one array, beside biases that hide all keys that the first queries see."""
    whole = fnp.cos(fnp.concatenate([query, key, value], 2))
    bias = fnp.where(fnp.arange(9) < 5, -fnp.inf, 0)[None, None, None]
    parts = fnp.split(whole, (4, 6), 2)
    return fnp.sum(attend(*parts, bias, extra_names=("bias",)) ** 2)


PROGRAMS = {
    "forward": attend,
    "gradient": fd.value_and_grad(loss, argnums=(0, 1, 2)),
    "same": lambda q, k, v: attend(q, k, k),
    "vmap": fd.vmap(lambda q, k, v: attend(q[None], k[None], v[None])),
    "scan": fd.grad(lambda q, k, v: fnp.sum(scan_of_layers(q, k, v))),
    "masked": masked,
    "dropout": dropped,
    "dropout, gradient": fd.value_and_grad(dropped_loss, argnums=(0, 1, 2)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_the_cpu_does(name: str, gpu: StubGpu) -> None:
    function = fd.jit(PROGRAMS[name])
    arrays = inputs()
    wanted = fd.tree.leaves(function(*arrays))
    for _ in range(4):  # more calls than it takes for a graph
        found = fd.tree.leaves(function(*(fd.device_put(x, "gpu") for x in arrays)))
        for left, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(left), np.asarray(right), 1e-4, 1e-4)
    launched = {name for name, _ in gpu.compiled}
    assert FORWARD in launched
    assert (launched >= BACKWARD) == (name in ("gradient", "scan", "dropout, gradient"))


class Spilling(StubGpu):
    """Code of attention spills unless it is the one of so many that is compiled."""

    lean = 1

    def _compile(self, kernels: Any, arch: int, *, aligned: bool = True) -> list[Cubin]:
        cubins = super()._compile(kernels, arch, aligned=aligned)
        for kernel, cubin in zip(kernels, cubins, strict=True):
            tried = [name for name, _ in self.compiled].count(kernel.name)
            cubin.metadata["spill_bytes"] = 8 * (tried - 1 != self.lean)
        return cubins


@pytest.mark.parametrize("lean", [0, 1, 2, 9])
def test_tiles_whose_registers_do_not_suffice_give_way(lean: int) -> None:
    with installed(Spilling()) as gpu:
        gpu.lean = lean
        arrays = inputs()
        wanted = np.asarray(fd.jit(attend)(*arrays))
        function = fd.jit(attend)
        for _ in range(2):
            found = function(*(fd.device_put(x, "gpu") for x in arrays))
            np.testing.assert_allclose(np.asarray(found), wanted, 1e-4, 1e-4)
        tried = [name for name, _ in gpu.compiled].count(FORWARD)
        options = len(attention_forward.candidates(problem(9, 9, groups=2, heads=4)))
        assert tried == min(lean + 1, options) and options > 2
        launched = {image.metadata["source"] for image in gpu.stub.images.values()}
        assert len(launched) == tried


def test_donated_inputs_are_not_overwritten_while_they_are_read(gpu: StubGpu) -> None:
    arrays = inputs()
    function = fd.jit(attend, donate_argnums=(0, 1, 2))
    wanted = np.asarray(fd.jit(attend)(*arrays))
    found = function(*(fd.device_put(x, "gpu") for x in arrays))
    np.testing.assert_allclose(np.asarray(found), wanted, 1e-5, 1e-5)


@pytest.mark.parametrize("case", ["float64", "large head", "empty"])
def test_what_kernels_do_not_take_is_composed(case: str, gpu: StubGpu) -> None:
    arrays = inputs(np.float64 if case == "float64" else np.float32)
    if case == "large head":
        arrays = [np.concatenate([x] * 33, axis=3) for x in arrays]
    if case == "empty":
        arrays = [x[:0] for x in arrays]
    wanted = np.asarray(fd.jit(attend)(*arrays))
    found = np.asarray(fd.jit(attend)(*(fd.device_put(x, "gpu") for x in arrays)))
    np.testing.assert_allclose(found, wanted, 1e-4, 1e-4)
    assert FORWARD not in {name for name, _ in gpu.compiled}


def test_precision_of_products_is_the_configured_one(gpu: StubGpu) -> None:
    arrays = inputs()
    with fd.config.override(default_matmul_precision="tensorfloat32", backend="gpu"):
        text = fd.jit(attend).lower(*arrays).as_text("triton")
    assert "PRECISION: tl.constexpr = 'tf32'" in text


PROGRAM = """
import json
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.test_attention import dropped_loss, inputs, loss, packed_loss
import funcdl as fd
from funcdl.kernels.triton.interpret import interpret

differences = []
for function in loss, dropped_loss, packed_loss:
    function = fd.jit(fd.value_and_grad(function, argnums=(0, 1, 2)))
    wanted = fd.tree.leaves(function(*inputs()))
    with installed(StubGpu(run=interpret)) as gpu:
        found = fd.tree.leaves(function(*(fd.device_put(x, "gpu") for x in inputs())))
    pairs = zip(found, wanted)
    differences += [float(abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs]
print(json.dumps(differences))
"""


@pytest.mark.triton
def test_gradient_in_tritons_interpreter() -> None:
    differences = answer("-c", PROGRAM, interpret=True)
    assert len(differences) == 12 and all(each < 1e-3 for each in differences)
