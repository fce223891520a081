"""Translate between two domains without pairs: a cycle-consistent adversarial network.

Domain A is a spiral of points, domain B the same spiral turned, shrunk and moved, and the network
sees points of the one and points of the other, never which belong together. Two maps, a_to_b and
b_to_a, must each make points that a discriminator takes for real; and there and back again must
lead home, which is the cycle loss of Zhu, Park, Isola and Efros, "Unpaired image-to-image
translation using cycle-consistent adversarial networks" (2017). From the root of the repository:

    python examples/cyclegan.py

It trains with and without the cycle loss. The hidden pairs then tell how good the translation is.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn, optim, random

BATCH_SIZE = 256
ANGLE = 0.7


def spiral(time: Any) -> Any:
    """Domain A: the point at each time from 0 to 1."""
    radius, angle = 0.3 + time, 5 * time
    return fnp.stack([radius * fnp.cos(angle), radius * fnp.sin(angle)], axis=-1)


def hidden_map(points: Any) -> Any:
    """From domain A to domain B: what is to be found."""
    turn = np.array([[np.cos(ANGLE), np.sin(ANGLE)], [-np.sin(ANGLE), np.cos(ANGLE)]], np.float32)
    return 0.8 * points @ turn + np.array([1.0, -0.5], np.float32)


def draw(key: Any, count: int = BATCH_SIZE) -> Any:
    """Points of both domains, drawn apart from each other."""
    a_times, b_times = random.uniform(key, (2, count))
    return spiral(a_times), hidden_map(spiral(b_times))


def translate(params: Any, points: Any) -> Any:
    """Each point moved a little: a residual network, which starts near the identity."""
    return points + nn.mlp_apply(params, points, nn.silu)


def judge(params: Any, points: Any) -> Any:
    """The logarithm of the odds that each point is a real one."""
    return nn.mlp_apply(params, points, nn.silu)[..., 0]


def translator_loss(maps: Any, judges: Any, a: Any, b: Any, cycle_weight: float) -> Any:
    """Fool both discriminators, and come back to where you were."""
    fake_b, fake_a = translate(maps["a_to_b"], a), translate(maps["b_to_a"], b)
    fooling = nn.softplus(-judge(judges["b"], fake_b)) + nn.softplus(-judge(judges["a"], fake_a))
    home_a, home_b = translate(maps["b_to_a"], fake_b), translate(maps["a_to_b"], fake_a)
    cycle = fnp.abs(home_a - a) + fnp.abs(home_b - b)
    return fooling.mean() + cycle_weight * cycle.mean()


def judge_loss(params: Any, real: Any, fake: Any) -> Any:
    """Tell the two apart, and be flat around real points (see gan.py)."""
    mistakes = nn.softplus(-judge(params, real)) + nn.softplus(judge(params, fake))
    slopes = fd.vmap(fd.grad(judge, argnums=1), (None, 0))(params, real)
    return mistakes.mean() + 0.05 * (slopes**2).sum(axis=-1).mean()


def judges_loss(judges: Any, maps: Any, a: Any, b: Any) -> Any:
    """One loss for the two discriminators, which share nothing."""
    return judge_loss(judges["a"], a, translate(maps["b_to_a"], b)) + judge_loss(
        judges["b"], b, translate(maps["a_to_b"], a)
    )


def make_step(optimizer: optim.GradientTransformation, cycle_weight: float) -> Any:
    """One move of the discriminators, then one of the translators."""

    def step(players: Any, states: Any, key: Any) -> Any:
        (maps, judges), (maps_state, judges_state) = players, states
        a, b = draw(key)
        slope = fd.grad(judges_loss)(judges, maps, a, b)
        updates, judges_state = optimizer.update(slope, judges_state)
        judges = optim.apply_updates(judges, updates)
        slope = fd.grad(translator_loss)(maps, judges, a, b, cycle_weight)
        updates, maps_state = optimizer.update(slope, maps_state)
        return (optim.apply_updates(maps, updates), judges), (maps_state, judges_state)

    return fd.jit(step, donate_argnums=(0, 1))


@fd.jit
def errors(maps: Any, key: Any) -> dict[str, Any]:
    """How far points end from home, and from their hidden partners, on average."""
    a, _ = draw(key, 1000)
    there = translate(maps["a_to_b"], a)
    back = translate(maps["b_to_a"], there)
    partner = hidden_map(a)

    def length(x: Any) -> Any:
        return fnp.sqrt((x**2).sum(axis=-1)).mean()

    return {
        "home": length(back - a),
        "partner": length(there - partner),
        "partner, untranslated": length(a - partner),
    }


def train(cycle_weight: float, steps: int, seed: int) -> dict[str, float]:
    """The errors after training."""
    key, *keys, test_key = random.split(random.key(seed), 6)
    maps = {
        "a_to_b": nn.mlp_init(keys[0], [2, 64, 64, 2]),
        "b_to_a": nn.mlp_init(keys[1], [2, 64, 64, 2]),
    }
    judges = {
        "a": nn.mlp_init(keys[2], [2, 64, 64, 1]),
        "b": nn.mlp_init(keys[3], [2, 64, 64, 1]),
    }
    optimizer = optim.adam(1e-3, b1=0.5)
    players, states = (maps, judges), (optimizer.init(maps), optimizer.init(judges))
    step = make_step(optimizer, cycle_weight)
    for i in range(steps):
        players, states = step(players, states, random.fold_in(key, i))
        if (i + 1) % max(1, steps // 5) == 0:
            found = errors(players[0], test_key)
            print(f"step {i + 1:5}", *(f"  {name} {error:.3f}" for name, error in found.items()))
    return {name: float(error) for name, error in errors(players[0], test_key).items()}


def main() -> None:
    """Train twice, and print how far points end from where they should."""
    parser = argparse.ArgumentParser(description="Translate between two sets of points.")
    parser.add_argument("--steps", type=int, default=2500, help="moves of each player")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    print("How far points of A end from where they should\n\nwith the cycle loss")
    with_cycle = train(10.0, args.steps, args.seed)
    print("\nwithout")
    without = train(0.0, args.steps, args.seed)
    print()
    for name in ("home", "partner"):
        print(f"from {name}: {with_cycle[name]:.3f} with, {without[name]:.3f} without")


if __name__ == "__main__":
    main()
