"""Calls of samplers to compare with JAX's, as text: `m` is the module, `key` one of its keys."""

from __future__ import annotations

from typing import Any

import numpy as np

LOGITS = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], np.float32))

# Drawn bit by bit, or by exact arithmetic on the bits.
EXACT = [
    "m.bits(key, (5,))",
    "m.bits(key, (2, 3), 'uint8')",
    "m.bits(key, (3,), 'uint16')",
    "m.bits(key)",
    "m.uniform(key, (6,))",
    "m.uniform(key, (2, 3))",
    "m.uniform(key)",
    "m.uniform(key, (5,), 'bfloat16')",
    "m.uniform(key, (5,), 'float16')",
    "m.randint(key, (6,), 0, 10)",
    "m.randint(key, (6,), -5, 6, 'int8')",
    "m.randint(key, (6,), 0, 256, 'uint8')",
    "m.randint(key, (4,), -(2**31), 2**31 - 1)",
    "m.randint(key, (4,), 3, 9, 'uint32')",
    "m.randint(key, (4,), 5, 2)",
    "m.randint(key, (2, 3), np.array([0, 5, 9]), np.array([2, 7, 99]))",
    "m.bernoulli(key, 0.3, (20,))",
    "m.bernoulli(key, np.array([0.1, 0.5, 0.9], np.float32))",
    "m.rademacher(key, (8,))",
    "m.categorical(key, LOGITS)",
    "m.categorical(key, LOGITS, axis=0)",
    "m.categorical(key, LOGITS, shape=(3, 2))",
]

# Through functions whose last bits differ between libraries.
ROUNDED = [
    "m.uniform(key, (6,), minval=-3.0, maxval=5.0)",
    "m.normal(key, (6,))",
    "m.normal(key, (2, 3))",
    "m.normal(key)",
    "m.normal(key, (5,), 'bfloat16')",
    "m.normal(key, (5,), 'float16')",
    "m.truncated_normal(key, -1.0, 2.0, (6,))",
    "m.truncated_normal(key, np.array([-1.0, 0.0], np.float32), 2.0)",
    "m.exponential(key, (6,))",
    "m.gumbel(key, (6,))",
]

DRAWS = EXACT + ROUNDED


def call(module: Any, text: str, seed: int = 42) -> Any:
    scope = {"m": module, "key": module.key(seed), "np": np, "LOGITS": LOGITS}
    return eval(text, scope)
