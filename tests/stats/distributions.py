"""Distributions with numbers to try them on."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
EDGES = np.array([-np.inf, -1.0, 0.0, 1.0, 2.0, np.inf, np.nan])
ANY = np.concatenate([np.linspace(-9, 9, 37), [-60.0, 1e-9, 60.0, 1e8], EDGES])
COUNTS = np.array([-1.0, 0, 1, 2, 3, 7, 30, 0.5, np.nan])


def column(*values: float) -> NDArray:
    return np.array(values)[:, None]


@dataclass(frozen=True)
class Distribution:
    """One distribution.

    Args:
      name: of the module.
      shapes: its parameters before location and scale, columns; rows of `x` go along.
      x: where it is tried.
      smooth: points inside the support for all of the parameters, where derivatives are checked.
      located: how many of location and scale it has.
      rtol: of values, for functions that are hard.
      by_shapes: up to which order distribution functions have derivatives by the shapes.
    """

    name: str
    shapes: tuple[NDArray, ...] = ()
    x: NDArray = field(default_factory=lambda: ANY)
    smooth: NDArray = field(default_factory=lambda: np.array([0.3, 1.7, 2.6]))
    located: int = 2
    rtol: float = 2e-13
    by_shapes: int = 2

    @property
    def module(self) -> Any:
        return importlib.import_module(f"funcdl.scipy.stats.{self.name}")

    def functions(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The functions, by name."""
        for name in self.module.__all__:
            yield name, getattr(self.module, name)


UNIT = np.array([0.1, 0.45, 0.8])
TABLE = [
    Distribution("norm", rtol=2e-12),
    Distribution("uniform", smooth=UNIT),
    Distribution("expon"),
    Distribution("laplace"),
    Distribution("logistic"),
    Distribution("cauchy"),
    Distribution("gumbel_l"),
    Distribution("gumbel_r"),
    Distribution("gamma", (column(0.3, 1.0, 4.2, 90.0),), rtol=2e-12, by_shapes=1),
    Distribution("chi2", (column(0.6, 2.0, 7.1),), rtol=2e-12, by_shapes=1),
    Distribution(
        "beta",
        (column(0.4, 1.0, 3.3), column(0.7, 1.0, 21.0)),
        np.concatenate([np.linspace(0, 1, 23), [1e-9], EDGES]),
        UNIT,
        rtol=1e-12,
        by_shapes=0,
    ),
    Distribution("t", (column(0.5, 3.0, 1e6, np.inf),), rtol=1e-10),
    Distribution("pareto", (column(0.5, 3.0),), smooth=np.array([1.2, 2.6])),
    Distribution(
        "truncnorm",
        (column(-1.0, 0.1, 2.0, -np.inf, -np.inf), column(0.9, 7.0, 7.0, 1.0, np.inf)),
        smooth=np.array([0.3, 0.6]),
    ),
    Distribution("vonmises", (column(0.0, 0.3, 5.0, 900.0),), ANY[:41], located=0, rtol=1e-12),
    Distribution("wrapcauchy", (column(0.2, 0.9),), ANY[:41], located=0),
    Distribution("gennorm", (column(0.6, 1.0, 3.0),), located=0, rtol=1e-12, by_shapes=1),
    Distribution("bernoulli", (column(0.3, 0.6),), COUNTS, np.array([0.0, 1.0]), located=1),
    Distribution("binom", (column(7.0, 30.0), column(0.3, 0.9)), COUNTS, np.array([1.0]), 1),
    Distribution(
        "betabinom",
        (column(7.0, 30.0), column(0.3, 2.0), column(1.1, 0.6)),
        COUNTS,
        np.array([1.0, 3.0]),
        1,
    ),
    Distribution("geom", (column(0.01, 0.8),), COUNTS, np.array([1.0, 3.0]), 1),
    Distribution("nbinom", (column(0.4, 9), column(0.3, 0.9)), COUNTS, np.array([1.0, 3.0]), 1),
    Distribution("poisson", (column(0.2, 3, 60),), COUNTS, np.array([1.0, 3.0]), 1),
]
