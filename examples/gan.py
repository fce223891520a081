"""A generative adversarial network in two dimensions: learn to draw from a Gaussian.

The generator is an affine map of Gaussian noise, so what it has learnt can be read off: the mean
and the covariance of its samples must become the data's. Two networks play against each other, so
there are two losses and two optimisers, and one compiled step that moves both. From the root of the
repository:

    python examples/gan.py

The losses are those of Goodfellow et al., "Generative adversarial nets" (2014). The gradient
penalty of Mescheder, Geiger and Nowozin, "Which training methods for GANs do actually converge?"
(2018) ends the dance of the two around the solution. It is the derivative of a derivative: `grad`
inside of a function that `grad` differentiates.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, optim, random

MEAN = np.array([2.0, 1.0], np.float32)
MIXING = np.array([[1.0, 2.0], [-0.2, 0.5]], np.float32)  # data = noise @ MIXING + MEAN
COVARIANCE = MIXING.T @ MIXING
BATCH_SIZE = 256


def draw_data(key: Any) -> Any:
    """A batch of points with the wanted mean and covariance."""
    return random.normal(key, (BATCH_SIZE, 2)) @ MIXING + MEAN


def generate(generator: Any, key: Any, count: int) -> Any:
    """`count` points that the generator makes of noise."""
    return nn.linear_apply(generator, random.normal(key, (count, 2)))


def judge(discriminator: Any, points: Any) -> Any:
    """How real each point looks: the logarithm of the odds."""
    return nn.mlp_apply(discriminator, points, nn.silu)[..., 0]


def generator_loss(generator: Any, discriminator: Any, key: Any) -> Any:
    """Small where the discriminator takes generated points for real."""
    fake = generate(generator, key, BATCH_SIZE)
    return nn.softplus(-judge(discriminator, fake)).mean()


def discriminator_loss(discriminator: Any, generator: Any, key: Any) -> Any:
    """Small where it tells the two apart, and is flat around real points."""
    real_key, fake_key = random.split(key)
    real = draw_data(real_key)
    fake = generate(generator, fake_key, BATCH_SIZE)
    mistakes = nn.softplus(-judge(discriminator, real)) + nn.softplus(judge(discriminator, fake))
    # One gradient for each point: the function of one point, differentiated, mapped over all.
    slopes = fd.vmap(fd.grad(judge, argnums=1), (None, 0))(discriminator, real)
    return mistakes.mean() + 0.5 * (slopes**2).sum(axis=-1).mean()


class Game(NamedTuple):
    """All that training changes. It is a pytree, as every NamedTuple is."""

    generator: Any
    discriminator: Any
    generator_state: Any
    discriminator_state: Any


generator_optimizer = optim.adam(5e-3, b1=0.5)
discriminator_optimizer = optim.adam(5e-3, b1=0.5)


def start(key: Any) -> Game:
    """A generator that knows nothing, and a discriminator that has seen nothing."""
    generator_key, discriminator_key = random.split(key)
    generator = nn.linear_init(generator_key, 2, 2)
    discriminator = nn.mlp_init(discriminator_key, [2, 64, 64, 1])
    return Game(
        generator,
        discriminator,
        generator_optimizer.init(generator),
        discriminator_optimizer.init(discriminator),
    )


def step(game: Game, key: Any) -> tuple[Game, Any]:
    """One move of each player, and the two losses."""
    d_key, g_key = random.split(key)
    d_loss, slope = fd.value_and_grad(discriminator_loss)(game.discriminator, game.generator, d_key)
    update, d_state = discriminator_optimizer.update(slope, game.discriminator_state)
    discriminator = optim.apply_updates(game.discriminator, update)

    g_loss, slope = fd.value_and_grad(generator_loss)(game.generator, discriminator, g_key)
    update, g_state = generator_optimizer.update(slope, game.generator_state)
    generator = optim.apply_updates(game.generator, update)
    return Game(generator, discriminator, g_state, d_state), fnp.stack([d_loss, g_loss])


@fd.jit
def play(game: Game, keys: Any) -> tuple[Game, Any]:
    """Many steps, as one compiled loop: the game after a step for each key, and the mean losses."""
    game, losses = lax.scan(step, game, keys)
    return game, losses.mean(axis=0)


def main() -> None:
    """Train, and compare the samples' mean and covariance with the data's."""
    parser = argparse.ArgumentParser(description="Fit a Gaussian by a game of two networks.")
    parser.add_argument("--steps", type=int, default=4000, help="moves of each player")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    key, init_key, test_key = random.split(random.key(args.seed), 3)
    game = start(init_key)
    stretch = max(1, args.steps // 8)
    print(f"{'step':>5}  {'discriminator':>13}  {'generator':>9}  mean of samples")
    for done in range(0, args.steps, stretch):
        game, (d_loss, g_loss) = play(game, random.split(random.fold_in(key, done), stretch))
        mean = generate(game.generator, test_key, 10_000).mean(axis=0)
        print(f"{done + stretch:5}  {d_loss:13.4f}  {g_loss:9.4f}  {np.round(mean, 2)}")

    samples = np.asarray(generate(game.generator, test_key, 100_000))
    mean, covariance = samples.mean(axis=0), np.cov(samples.T)
    np.set_printoptions(precision=2, suppress=True)
    print("\nmean of the data and of samples, one above the other:")
    print(np.stack([MEAN, mean]))
    print("covariance, side by side:")
    print(np.hstack([COVARIANCE, covariance]))
    print(f"largest error: {max(abs(mean - MEAN).max(), abs(covariance - COVARIANCE).max()):.2f}")


if __name__ == "__main__":
    main()
