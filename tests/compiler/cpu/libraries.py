"""Programs that are written as C libraries, and how one is called in a process without funcdl."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

NDArray = np.ndarray[Any, Any]

# Reads arguments from a file, and calls the library: in `runs` of other threads and workspaces;
# arrays begin at 8 bytes past a multiple of 64. Prints nothing; a run's results go to a file each.
CALLER = """
import ctypes, json, sys

class Block:
    def __init__(self, size, offset):
        self.whole = ctypes.create_string_buffer(size + 128)
        start = ctypes.addressof(self.whole)
        self.address = start + -start % 64 + offset
        self.size = size

    def read(self):
        return ctypes.string_at(self.address, self.size)

path, name, workspace, inputs, outputs, shared = json.loads(sys.argv[1])
library = ctypes.CDLL(f"{path}/lib{name}.so")
run = library[f"{name}_run"]
run.restype = ctypes.c_int64
data = open(f"{path}/arguments", "rb").read()
runs = [(1, True, True), (2, True, False), (2, False, False), (2, False, True)]
for number, (threads, given, donated) in enumerate(runs):
    library[f"{name}_set_num_threads"](threads)
    ins, position = [], 0
    for size in inputs:
        ins.append(Block(size, 8))
        ctypes.memmove(ins[-1].address, data[position : position + size], size)
        position += size
    outs = [Block(size, 8) for size in outputs]
    for out, donor in shared if donated else []:
        outs[out] = ins[donor]
    pointers = lambda blocks: (ctypes.c_void_p * (len(blocks) + 1))(*[b.address for b in blocks])
    block = Block(workspace, 0)
    status = run(pointers(ins), pointers(outs), ctypes.c_void_p(block.address if given else None))
    assert status == 0, status
    with open(f"{path}/results{number}", "wb") as file:
        file.writelines(out.read() for out in outs)
    if outs and outputs[0]:
        missing = pointers(outs)
        missing[0] = None
        assert run(pointers(ins), missing, None) == -1
assert not {"funcdl", "numpy"} & set(sys.modules)
"""
NUM_RUNS = 4


@dataclass(frozen=True)
class Case:
    """A function and its arguments; `shared` are results that may take an argument's memory."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    donate: tuple[int, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()


def call(
    folder: Path, name: str, workspace: int, case: Case, outputs: list[NDArray]
) -> list[bytes]:
    """The results of some runs of a built library, one after the other as bytes."""
    inputs = [np.asarray(leaf) for leaf in fd.tree.leaves(case.args)]
    (folder / "arguments").write_bytes(b"".join(x.tobytes() for x in inputs))
    sizes = [[x.nbytes for x in arrays] for arrays in (inputs, outputs)]
    description = json.dumps([str(folder), name, workspace, *sizes, case.shared])
    done = subprocess.run(
        [sys.executable, "-I", "-c", CALLER, description], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [(folder / f"results{number}").read_bytes() for number in range(NUM_RUNS)]


def _normal(*shape: int, seed: int = 0) -> NDArray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def _integers(*shape: int, dtype: Any = np.int32, low: int = -100, high: int = 100) -> NDArray:
    return np.random.default_rng(shape).integers(low, high, shape).astype(dtype)


def _mlp_loss(params: Any, x: Any, y: Any) -> Any:
    logits = nn.mlp_apply(params, x)
    return nn.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _mlp_step() -> Case:
    """A step of Adam, in the memory of the parameters and of the optimiser's state."""
    adam = optim.adam(1e-3)
    params = nn.mlp_init(random.key(0), [20, 130, 10])

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = fd.value_and_grad(_mlp_loss)(params, x, y)
        updates, state = adam.update(grads, state, params)
        return optim.apply_updates(params, updates), state, value

    args = params, adam.init(params), _normal(70, 20), _integers(70, low=0, high=10)
    count = len(fd.tree.leaves(args[:2]))
    return Case(step, args, (0, 1), tuple((i, i) for i in range(count)))


def _network() -> Case:
    """Convolutions and pooling, with weights as constants."""
    weights = _normal(3, 3, 3, 8), _normal(3, 3, 8, 12), _normal(12 * 16, 10)

    def predict(x: Any) -> Any:
        for kernel in weights[:2]:
            x = lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.softmax(x.reshape(len(x), -1) @ weights[2])

    return Case(predict, (_normal(5, 16, 16, 3),))


def _lstm(weights: Any, xs: Any, state: Any) -> Any:
    def step(state: Any, x: Any) -> Any:
        h, c = state
        gates = fnp.concatenate([x, h], axis=1) @ weights["w"] + weights["b"]
        i, f, g, o = fnp.split(gates, 4, axis=1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * fnp.tanh(g)
        h = nn.sigmoid(o) * fnp.tanh(c)
        return (h, c), h

    return lax.scan(step, state, xs)


def _attention(x: Any) -> Any:
    def total(x: Any) -> Any:
        return (nn.dot_product_attention(x, x, x, is_causal=True) * x).sum()

    return fd.value_and_grad(total)(x)


def _orders(x: Any, at: Any) -> Any:
    order = fnp.argsort(x, axis=1)
    return {
        "sorted": fnp.sort(x, axis=1),
        "order": order,
        "taken": fnp.take_along_axis(x, order, axis=1),
        "sums": fnp.cumsum(x, axis=0),
        "rows": x[at],
        "counts": fnp.zeros(7, np.int32).at[at].add(1),
        "while": lax.while_loop(lambda v: v.sum() < 1000, lambda v: v * 2 + 1, fnp.abs(x)),
        "branch": lax.cond(at[0] > 3, fnp.sin, fnp.cos, x),
    }


def _types(x: Any) -> Any:
    """Every element type, complex numbers, arrays without elements, results of all kinds."""
    whole = lax.dot_general(
        x["i8"], x["i8"], (((1,), (1,)), ((), ())), preferred_element_type=np.int32
    )
    doubled = x["f32"] * 2
    return {
        "whole": whole,
        "halves": (x["f16"] + 1, x["bf16"] @ x["bf16"].T),
        "complex": (x["c64"] * 2j, x["c64"] @ x["c64"].T, fnp.fft.fft(x["c64"])),
        "truth": ~x["bool"],
        "bytes": x["u8"] // 3,
        "empty": (x["empty"] + 1, fnp.sum(x["empty"], axis=0)),
        "same": x["f32"],
        "twice": (doubled, doubled),
        "constant": (fnp.arange(3), 2.5, np.float32(7)),
        "numbers": random.normal(x["key"], (40,)),
        "bits": x["u32"] ^ 5,
        "factor": fnp.linalg.cholesky(x["f32"][:4] @ x["f32"][:4].T + 9 * fnp.eye(4)),
    }


def _every_type() -> dict[str, NDArray]:
    values = _normal(6, 33)
    return {
        "i8": _integers(40, 70, dtype=np.int8),
        "f16": values.astype(np.float16),
        "bf16": np.asarray(fnp.asarray(values).astype(fnp.bfloat16)),
        "f32": values,
        "c64": (values + 1j * values[::-1]).astype(np.complex64),
        "bool": values > 0,
        "u8": _integers(17, dtype=np.uint8, low=0, high=255),
        "u32": _integers(17, dtype=np.uint32, low=0),
        "empty": np.zeros((0, 3), np.float32),
        "key": np.asarray([1, 2], np.uint32),
    }


def _no_arguments() -> Any:
    return fnp.arange(4) * 3, fnp.ones(2)


CASES: dict[str, Callable[[], Case]] = {
    "mlp_step": _mlp_step,
    "network": _network,
    "lstm": lambda: Case(
        _lstm,
        (
            {"w": _normal(13, 32), "b": _normal(32)},
            _normal(9, 32, 5),
            (_normal(32, 8), _normal(32, 8, seed=1)),
        ),
    ),
    "attention": lambda: Case(_attention, (_normal(1, 40, 2, 16),)),
    "orders": lambda: Case(_orders, (_normal(7, 50), _integers(5, low=0, high=7))),
    "types": lambda: Case(_types, (_every_type(),)),
    "no_arguments": lambda: Case(_no_arguments, ()),
    "identity": lambda: Case(lambda x, y: (y, x), (_normal(3), _normal(0, 2)), (0,)),
    "donated": lambda: Case(lambda x: (x + 1, x), (_normal(300),), (0,), ()),
}
