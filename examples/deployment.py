"""From training to a C program: weights of 8 bits, a library, and no Python where it runs.

A network learns to read handwritten digits in float32. Its weights are then rounded to int8, each
output with a scale of its own, and between layers the activations, with scales that are seen on the
training images. Products of int8 are summed in int32, which is exact, and take a quarter of the
memory. The result is written as a C library and built by `make`; the program beside it reads images
from a pipe, and answers as Python did. From the root of the repository:

    python examples/deployment.py
    python examples/deployment.py --folder digits_library    # keep it, to look at the code
"""

from __future__ import annotations

import argparse
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "This example needs scikit-learn; install what all examples need with\n"
        "    pip install -e '.[examples]'"
    ) from None

BATCH_SIZE = 64
NUM_TEST = 360
SIZES = (64, 128, 64, 10)
GREYS = 16  # values of a pixel are from 0 to this


def load_data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images i8[1797, 64] as the scanner saw them, and digits i32[1797]."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    return images.astype(np.int8)[order], digits.astype(np.int32)[order]


def loss(params: Any, images: Any, digits: Any) -> Any:
    """The cross-entropy, on average."""
    logits = nn.mlp_apply(params, images.astype(np.float32) / GREYS)
    return nn.softmax_cross_entropy_with_integer_labels(logits, digits).mean()


def train(images: Any, digits: Any, steps: int, seed: int) -> Any:
    """The parameters of a network with relu between its layers."""
    optimizer = optim.adam(lambda i: 3e-3 * 0.5 * (1 + fnp.cos(np.pi * i / steps)))

    @functools.partial(fd.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, images: Any, digits: Any) -> Any:
        updates, state = optimizer.update(fd.grad(loss)(params, images, digits), state, params)
        return optim.apply_updates(params, updates), state

    params = nn.mlp_init(random.key(seed), SIZES)
    state = optimizer.init(params)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.integers(0, len(digits), BATCH_SIZE)
        params, state = step(params, state, images[chosen], digits[chosen])
    return params


class Quantised(NamedTuple):
    """A layer of whole numbers: `weight` times `scale` is what it was before, nearly."""

    weight: Any  # i8[inputs, outputs]
    scale: Any  # f32[outputs], of a sum of products of whole numbers
    bias: Any  # f32[outputs]


def quantise(params: Any, images: Any) -> tuple[list[Quantised], list[float]]:
    """Layers of int8, and the scales of what they read.

    The largest weight of each output becomes 127, and so does the largest activation that the
    images cause.
    """
    layers, scales = [], [1 / GREYS]
    x = images.astype(np.float32) / GREYS
    for at, layer in enumerate(params):
        weight, bias = np.asarray(layer["w"]), np.asarray(layer["b"])
        largest = np.abs(weight).max(axis=0)
        whole = np.round(weight / largest * 127).astype(np.int8)
        layers.append(Quantised(whole, largest / 127 * np.float32(scales[at]), bias))
        x = np.maximum(x @ weight + bias, 0)
        scales.append(float(x.max()) / 127)
    return layers, scales[:-1]


def predict(layers: list[Quantised], scales: list[float], images: Any) -> Any:
    """The digits i32[n] of images i8[n, 64], by products of whole numbers."""
    whole = images
    x: Any = None
    for at, layer in enumerate(layers):
        if at > 0:
            whole = fnp.round(fnp.clip(x / scales[at], 0, 127)).astype(np.int8)
        contract_rows = (((1,), (0,)), ((), ()))
        sums = lax.dot_general(whole, layer.weight, contract_rows, preferred_element_type=np.int32)
        x = sums.astype(np.float32) * layer.scale + layer.bias
    return fnp.argmax(x, axis=1).astype(np.int32)


def main() -> None:
    """Train, round, compare; then write, build and run the library."""
    parser = argparse.ArgumentParser(description="A network of int8 as a C library.")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to leave the library")
    args = parser.parse_args()

    images, digits = load_data()
    test_images, test_digits = images[:NUM_TEST], digits[:NUM_TEST]
    params = train(images[NUM_TEST:], digits[NUM_TEST:], args.steps, args.seed)
    layers, scales = quantise(params, images[NUM_TEST:])

    @fd.jit
    def read_digits(images: Any) -> Any:
        return predict(layers, scales, images)

    logits = nn.mlp_apply(params, test_images.astype(np.float32) / GREYS)
    exact, rounded = np.asarray(logits.argmax(axis=1)), np.asarray(read_digits(test_images))
    print(f"{NUM_TEST} unseen images")
    for name, found, tree in (("float32", exact, params), ("int8", rounded, layers)):
        size = sum(np.asarray(leaf).nbytes for leaf in fd.tree.leaves(tree))
        print(f"{name:7}  {np.mean(found == test_digits):.2%} right, {size:6,} bytes of parameters")
    print(f"the same answer: {np.mean(exact == rounded):.2%}")

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        read_digits.lower(test_images).write_library(folder)
        print(f"\nThe library's header has\n\n{interface(folder / 'read_digits.h')}\n")
        if shutil.which("make") is None:
            raise SystemExit("To build it, install make and gcc or clang.")
        subprocess.run(["make", "-s"], cwd=folder, check=True)
        size = (folder / "libread_digits.so").stat().st_size
        answer = subprocess.run(
            [folder.resolve() / "read_digits_main"],
            input=test_images.tobytes(),
            capture_output=True,
            check=True,
        )
    found = np.frombuffer(answer.stdout, np.int32)
    print(f"libread_digits.so: {size / 1024:.0f} KiB, weights included")
    print(f"the C program answers as Python: {np.sum(found == rounded)} of {NUM_TEST}")


def interface(header: Path) -> str:
    """What goes in and what comes out, by a library's header."""
    parts = header.read_text().split("\n\n")
    return "\n\n".join(part for part in parts if "\nstruct" in part)


if __name__ == "__main__":
    main()
