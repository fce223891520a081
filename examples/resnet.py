"""A residual network reads handwritten digits, with batch norm and augmentation.

Batch norm is the one layer whose result depends on more than its input: it learns by the batch's
statistics, and works by averages of those that it has seen. Here these averages are an argument and
a result of the network, as everything is, and `value_and_grad(..., has_aux=True)` hands them on.
Training images are shifted at random within the jitted step, and come in a new order in each epoch,
prepared by a thread. From the root of the repository:

    python examples/resnet.py

Blocks are those of He et al., "Deep residual learning for image recognition" (2016), batch norm
that of Ioffe and Szegedy (2015). At the end, the norms are folded into the convolutions before
them: the same network without any norm.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import data, nn, optim, random

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit(
        "This example needs scikit-learn; install what all examples need with\n"
        "    pip install -e '.[examples]'"
    ) from None

BATCH_SIZE = 64
NUM_TEST = 360
HE_NORMAL = nn.initializers.he_normal()
WIDTHS = (16, 32)  # of the two stages; the second has half the height and width


def load_data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images f32[1797, 8, 8, 1], batch, height, width, channels; and digits i32[1797]."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images / 8 - 1).astype(np.float32)[..., None]
    return images[order], digits.target.astype(np.int32)[order]


LAYERS = {  # name: size of the kernel, channels, features, stride
    "stem": (3, 1, WIDTHS[0], 1),
    "block1.a": (3, WIDTHS[0], WIDTHS[0], 1),
    "block1.b": (3, WIDTHS[0], WIDTHS[0], 1),
    "block2.a": (3, WIDTHS[0], WIDTHS[1], 2),
    "block2.b": (3, WIDTHS[1], WIDTHS[1], 1),
    "block2.skip": (1, WIDTHS[0], WIDTHS[1], 2),
}


def init(key: Any) -> tuple[Any, Any]:
    """Parameters, which gradients move, and averages, which they do not."""
    *keys, head_key = random.split(key, len(LAYERS) + 1)
    params: dict[str, Any] = {"head": nn.linear_init(head_key, WIDTHS[1], 10)}
    averages = {}
    for layer_key, (name, (size, channels, features, _)) in zip(keys, LAYERS.items(), strict=True):
        norm, averages[name] = nn.batch_norm_init(None, features)
        conv = nn.conv_init(
            layer_key, channels, features, (size, size), w_init=HE_NORMAL, b_init=None
        )
        params[name] = {"conv": conv, "norm": norm}
    return params, averages


def apply(params: Any, averages: Any, images: Any, training: bool) -> tuple[Any, Any]:
    """Logits f32[batch, 10], and the averages after this batch."""
    new = {}

    def layer(name: str, x: Any) -> Any:
        x = nn.conv_apply(params[name]["conv"], x, strides=LAYERS[name][3])
        if name in averages:  # not folded
            norm = params[name]["norm"]
            x, new[name] = nn.batch_norm_apply(norm, averages[name], x, train=training)
        return x

    x = nn.relu(layer("stem", images))
    x = nn.relu(x + layer("block1.b", nn.relu(layer("block1.a", x))))
    x = nn.relu(layer("block2.skip", x) + layer("block2.b", nn.relu(layer("block2.a", x))))
    return nn.linear_apply(params["head"], x.mean(axis=(1, 2))), new


def fold(params: Any, averages: Any) -> Any:
    """Parameters of the same network without norms: convolutions are linear, and so is a norm."""
    folded = dict(params)
    for name, seen in averages.items():
        layer = params[name]
        folded[name] = {"conv": nn.batch_norm_fold(layer["norm"], seen, layer["conv"])}
    return folded


def loss(params: Any, averages: Any, images: Any, digits: Any) -> tuple[Any, Any]:
    """The surprise by the right digits, and the averages to go on with."""
    logits, averages = apply(params, averages, images, training=True)
    return nn.softmax_cross_entropy_with_integer_labels(logits, digits).mean(), averages


def main() -> None:
    """Train, test, fold the norms away, test again."""
    parser = argparse.ArgumentParser(description="Read digits with a residual network.")
    parser.add_argument("--steps", type=int, default=800, help="batches to learn from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    def learning_rate(step: Any) -> Any:
        """Half a cosine."""
        return 0.1 * 0.5 * (1 + fnp.cos(np.pi * step / args.steps))

    optimizer = optim.chain(
        optim.add_decayed_weights(5e-4), optim.sgd(learning_rate, momentum=0.9, nesterov=True)
    )

    @functools.partial(fd.jit, donate_argnums=(0, 1, 2))
    def step(params: Any, averages: Any, state: Any, key: Any, images: Any, digits: Any) -> Any:
        images = data.random_crop(key, images, 1, fill=-1)  # moved by up to one pixel
        (value, averages), slope = fd.value_and_grad(loss, has_aux=True)(
            params, averages, images, digits
        )
        updates, state = optimizer.update(slope, state, params)
        return optim.apply_updates(params, updates), averages, state, value

    @fd.jit
    def predict(params: Any, averages: Any, images: Any) -> Any:
        return apply(params, averages, images, training=False)[0]

    images, digits = load_data()
    test_images, test_digits = images[:NUM_TEST], digits[:NUM_TEST]

    def accuracy(params: Any, averages: Any) -> float:
        return float((predict(params, averages, test_images).argmax(axis=-1) == test_digits).mean())

    init_key, order_key, shift_key = random.split(random.key(args.seed), 3)
    params, averages = init(init_key)
    state = optimizer.init(params)
    train = images[NUM_TEST:], digits[NUM_TEST:]
    epochs = (data.batches(train, BATCH_SIZE, key=order_key, epoch=e) for e in itertools.count())
    batches = itertools.islice(itertools.chain.from_iterable(epochs), args.steps)
    for i, batch in enumerate(data.prefetch(batches)):
        key = random.fold_in(shift_key, i)
        params, averages, state, value = step(params, averages, state, key, *batch)
        if (i + 1) % max(1, args.steps // 5) == 0:
            print(f"step {i + 1:5}  loss {value:.4f}  accuracy {accuracy(params, averages):.2%}")

    folded = fold(params, averages)
    difference = fnp.abs(predict(params, averages, test_images) - predict(folded, {}, test_images))
    print(f"\naccuracy on {NUM_TEST} unseen images: {accuracy(params, averages):.2%}")
    print(f"with the norms folded away: {accuracy(folded, {}):.2%}")
    print(f"largest difference of a logit: {difference.max():.1e}")


if __name__ == "__main__":
    main()
