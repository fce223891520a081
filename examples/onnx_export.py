"""From training to another runtime: a convolutional network as an ONNX model.

A network learns to read handwritten digits: two convolutions, each followed by batch norm, whose
averages are kept for later. What reads digits is then a function of images alone, which closes over
the parameters; `funcdl.onnx.export` writes it as a graph of standard operators, and onnxruntime
runs it without funcdl. From the root of the repository:

    python examples/onnx_export.py
    python examples/onnx_export.py --path digits.onnx    # keep it, to look at it elsewhere
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

try:
    import onnx
    import onnxruntime
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "This example needs scikit-learn, onnx and onnxruntime; install them with\n"
        "    pip install -e '.[examples,onnx]' onnxruntime"
    ) from None

BATCH_SIZE = 64
NUM_TEST = 360
CHANNELS = (1, 16, 32)
KEPT = 0.9  # how much of the averages a step keeps

Params = dict[str, Any]


def load_data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images f32[1797, 8, 8, 1] from 0 to 1, and digits i32[1797]."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return images[order], digits.astype(np.int32)[order]


def init(key: Any) -> tuple[Params, Params]:
    """Parameters, and the averages of batch norm."""
    params: Params = {}
    averages: Params = {}
    for at, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
        key, own = random.split(key)
        params[f"conv{at}"] = {
            "kernel": nn.initializers.he_normal()(own, (3, 3, inputs, outputs)),
            "scale": fnp.ones(outputs),
            "bias": fnp.zeros(outputs),
        }
        averages[f"conv{at}"] = {"mean": fnp.zeros(outputs), "var": fnp.ones(outputs)}
    params["out"] = nn.mlp_init(key, (CHANNELS[-1], 10))
    return params, averages


def apply(params: Params, averages: Params, images: Any, training: bool) -> tuple[Any, Params]:
    """Logits f32[n, 10], and averages of what training saw."""
    x, seen = images, {}
    for name, old in averages.items():
        layer = params[name]
        x = lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        now = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2))} if training else old
        x = (x - now["mean"]) * lax.rsqrt(now["var"] + 1e-5) * layer["scale"] + layer["bias"]
        x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        seen[name] = fd.tree.map(lambda a, b: KEPT * a + (1 - KEPT) * b, old, now)
    return nn.mlp_apply(params["out"], x.mean((1, 2))), seen


def train(images: Any, digits: Any, steps: int, seed: int) -> tuple[Params, Params]:
    """Parameters and averages after training."""
    optimizer = optim.adam(lambda i: 1e-2 * 0.5 * (1 + fnp.cos(np.pi * i / steps)))

    def loss(params: Params, averages: Params, images: Any, digits: Any) -> tuple[Any, Params]:
        logits, averages = apply(params, averages, images, training=True)
        return nn.softmax_cross_entropy_with_integer_labels(logits, digits).mean(), averages

    @functools.partial(fd.jit, donate_argnums=(0, 1, 2))
    def step(params: Params, averages: Params, state: Any, images: Any, digits: Any) -> Any:
        grads, averages = fd.grad(loss, has_aux=True)(params, averages, images, digits)
        updates, state = optimizer.update(grads, state, params)
        return optim.apply_updates(params, updates), averages, state

    params, averages = init(random.key(seed))
    state = optimizer.init(params)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.integers(0, len(digits), BATCH_SIZE)
        params, averages, state = step(params, averages, state, images[chosen], digits[chosen])
    return params, averages


def main() -> None:
    """Train, export, and compare the two runtimes."""
    parser = argparse.ArgumentParser(description="A convolutional network as an ONNX model.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--path", type=Path, help="where to leave the model")
    args = parser.parse_args()

    images, digits = load_data()
    test_images, test_digits = images[:NUM_TEST], digits[:NUM_TEST]
    params, averages = train(images[NUM_TEST:], digits[NUM_TEST:], args.steps, args.seed)

    def read_digits(images: Any) -> Any:
        logits, _ = apply(params, averages, images, training=False)
        return {"digit": fnp.argmax(logits, axis=1), "probabilities": nn.softmax(logits)}

    with tempfile.TemporaryDirectory() as temporary:
        path = args.path or Path(temporary) / "digits.onnx"
        model = fd.onnx.export(read_digits, test_images, path=path)
        onnx.checker.check_model(str(path), full_check=True)
        print(f"{path.stat().st_size / 1024:.0f} KiB, weights included, and these operators:")
        counts = Counter(node.op_type for node in model.graph.node)
        print("  " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    given = {found.name: found.shape for found in session.get_inputs()}
    names = [found.name for found in session.get_outputs()]
    print(f"inputs {given}, outputs {names}")
    found, probabilities = session.run(names, {"images": test_images})
    wanted = fd.jit(read_digits)(test_images)
    difference = np.abs(probabilities - np.asarray(wanted["probabilities"])).max()
    print(f"onnxruntime: {np.mean(found == test_digits):.2%} of {NUM_TEST} unseen images right")
    print(f"the same answers as funcdl: {np.sum(found == np.asarray(wanted['digit']))}")
    print(f"largest difference of probabilities: {difference:.1e}")


if __name__ == "__main__":
    main()
