"""A deep convolutional generative adversarial network draws handwritten digits of 8 x 8 pixels.

The generator widens noise to an image by transposed convolutions, the discriminator narrows an
image to one number by strided convolutions; between them is batch norm. The layers are those of
Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional generative
adversarial networks" (2016). From the root of the repository:

    python examples/dcgan.py

It prints a few of the images, and how far the images are from the data: the Fréchet distance of two
Gaussians with the images' means and covariances, which Heusel et al. (2017) take between features
of a large network, and this script between pixels.
"""

from __future__ import annotations

import argparse
import functools
import math
from typing import Any

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
NOISE = 16
WIDTH = 32
# Images are NHWC: batch, height, width, channels. Kernels are HWIO.
LAYOUT = ("NHWC", "HWIO", "NHWC")
kernel_init = nn.initializers.normal(0.05)


def load_images() -> np.ndarray[Any, Any]:
    """scikit-learn's 1797 digits as f32[1797, 8, 8, 1], from -1 to 1, in random order."""
    images = load_digits().images.astype(np.float32)[..., None] / 8 - 1
    return np.random.default_rng(0).permutation(images)


def convolve(x: Any, kernel: Any) -> Any:
    """Half the height and half the width."""
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT)


def convolve_back(x: Any, kernel: Any) -> Any:
    """Twice the height and twice the width."""
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT)


def batch_norm(params: Any, x: Any) -> Any:
    """Each channel with mean 0 and variance 1 over the batch, then scaled and shifted."""
    return nn.standardize(x, axis=(0, 1, 2)) * params["scale"] + params["shift"]


def norm_init(channels: int) -> dict[str, Any]:
    """A batch norm that changes nothing after standardizing."""
    return {"scale": fnp.ones(channels), "shift": fnp.zeros(channels)}


def generator_init(key: Any) -> dict[str, Any]:
    """From noise to 2 x 2, to 4 x 4, to 8 x 8 pixels."""
    keys = random.split(key, 3)
    return {
        "start": nn.linear_init(keys[0], NOISE, 2 * 2 * 2 * WIDTH),
        "norm1": norm_init(2 * WIDTH),
        "conv1": kernel_init(keys[1], (4, 4, 2 * WIDTH, WIDTH)),
        "norm2": norm_init(WIDTH),
        "conv2": kernel_init(keys[2], (4, 4, WIDTH, 1)),
    }


def generate(params: Any, noise: Any) -> Any:
    """Images f32[batch, 8, 8, 1] of noise f32[batch, NOISE]."""
    x = nn.linear_apply(params["start"], noise).reshape(-1, 2, 2, 2 * WIDTH)
    x = nn.relu(batch_norm(params["norm1"], x))
    x = nn.relu(batch_norm(params["norm2"], convolve_back(x, params["conv1"])))
    return fnp.tanh(convolve_back(x, params["conv2"]))


def discriminator_init(key: Any) -> dict[str, Any]:
    """From 8 x 8 to 4 x 4 to 2 x 2 pixels, and to one number."""
    keys = random.split(key, 3)
    return {
        "conv1": kernel_init(keys[0], (4, 4, 1, WIDTH)),
        "conv2": kernel_init(keys[1], (4, 4, WIDTH, 2 * WIDTH)),
        "norm2": norm_init(2 * WIDTH),
        "end": nn.linear_init(keys[2], 2 * 2 * 2 * WIDTH, 1),
    }


def judge(params: Any, images: Any) -> Any:
    """The logarithm of the odds that each image is a real one."""
    x = nn.leaky_relu(convolve(images, params["conv1"]), 0.2)
    x = nn.leaky_relu(batch_norm(params["norm2"], convolve(x, params["conv2"])), 0.2)
    return nn.linear_apply(params["end"], x.reshape(len(x), -1))[:, 0]


def generator_loss(generator: Any, discriminator: Any, noise: Any) -> Any:
    """Small where the discriminator takes generated images for real."""
    return nn.softplus(-judge(discriminator, generate(generator, noise))).mean()


def discriminator_loss(discriminator: Any, generator: Any, noise: Any, real: Any) -> Any:
    """Small where it tells the two apart."""
    fake = generate(generator, noise)
    return (
        nn.softplus(-judge(discriminator, real)) + nn.softplus(judge(discriminator, fake))
    ).mean()


optimizer = optim.adam(1e-3, b1=0.5)


@functools.partial(fd.jit, donate_argnums=(0, 1))
def step(players: Any, states: Any, key: Any, real: Any) -> Any:
    """Both players move at once, each by the gradient of its own loss."""
    generator, discriminator = players
    noise = random.normal(key, (BATCH_SIZE, NOISE))
    losses_and_slopes = (
        fd.value_and_grad(generator_loss)(generator, discriminator, noise),
        fd.value_and_grad(discriminator_loss)(discriminator, generator, noise, real),
    )
    losses, slopes = zip(*losses_and_slopes, strict=True)
    # A pair of networks is a pytree like any other: one optimiser serves both.
    updates, states = optimizer.update(slopes, states)
    return optim.apply_updates(players, updates), states, losses


@fd.jit
def distance(a: Any, b: Any) -> Any:
    """The squared Fréchet distance between sets of images.

    With means m, n and covariances C = RᵀR, D = SᵀS it is |m - n|² + tr(C + D - 2 sqrt(C D)), and
    the trace of sqrt(C D) is the sum of the singular values of R Sᵀ.
    """

    def moments(images: Any) -> Any:
        rows = images.reshape(len(images), -1)
        centred = rows - rows.mean(axis=0)
        return rows.mean(axis=0), fnp.linalg.qr(centred / math.sqrt(len(rows)), mode="r")

    (mean_a, root_a), (mean_b, root_b) = moments(a), moments(b)
    overlap = fnp.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap


def draw(images: Any) -> str:
    """Images side by side, in characters."""
    shades = np.array(list(" .:-=+*#%@"))
    levels = ((np.asarray(images)[..., 0] + 1) / 2 * 9.99).astype(int)
    rows = shades[levels].transpose(1, 0, 2)
    return "\n".join("  ".join("".join(part) for part in row) for row in rows)


def main() -> None:
    """Train, draw, and measure the distance to the data."""
    parser = argparse.ArgumentParser(description="Draw handwritten digits by a game of networks.")
    parser.add_argument("--steps", type=int, default=3000, help="moves of each player")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    images = load_images()
    key, g_key, d_key, test_key = random.split(random.key(args.seed), 4)
    players = generator_init(g_key), discriminator_init(d_key)
    states = optimizer.init(players)
    test_noise = random.normal(test_key, (len(images) // 2, NOISE))
    show = fd.jit(generate)

    def far(candidates: Any) -> float:
        return float(distance(candidates, images[: len(images) // 2]))

    untrained = far(show(players[0], test_noise))
    rng = np.random.default_rng(args.seed)
    for i in range(args.steps):
        real = images[rng.integers(0, len(images), BATCH_SIZE)]
        players, states, losses = step(players, states, random.fold_in(key, i), real)
        if (i + 1) % max(1, args.steps // 5) == 0:
            g_loss, d_loss = map(float, losses)
            away = far(show(players[0], test_noise))
            print(f"step {i + 1:5}  losses {g_loss:.3f} {d_loss:.3f}  distance {away:.2f}")

    print(f"\nreal\n{draw(images[:8])}\n\ngenerated\n{draw(show(players[0], test_noise)[:8])}\n")
    trained, other = far(show(players[0], test_noise)), far(images[len(images) // 2 :])
    print(f"distance to the data: untrained {untrained:.1f}, trained {trained:.1f}")
    print(f"between two halves of the data: {other:.1f}")


if __name__ == "__main__":
    main()
