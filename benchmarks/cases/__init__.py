"""What is timed: each case builds one function for each framework, on the same data."""

from __future__ import annotations

from benchmarks.cases import convolution, kernels, tiny, training
from benchmarks.frameworks import Built, Case

CASES: dict[str, Case] = kernels.CASES | convolution.CASES | training.CASES

_MLP = "MLP 784-512-512-10 + Adam"
_PRODUCTS = {name for name in kernels.CASES if name.startswith("matmul")}
_KERNELS = {
    *("elementwise chain 4M", "gelu 4096x3072", "gelu gradient", "softmax 4096x1000"),
    *("softmax gradient", "layer norm 4096x768", "layer norm gradient"),
}
_DERIVATIVES = {_MLP, "Hessian-vector product", "per-example gradients"}
TAKES_PART: dict[str, set[str]] = {
    # No vmap, and no compiler that would make more cases worth while.
    "autograd": _PRODUCTS | _KERNELS | {_MLP, "Hessian-vector product"},
    "mlx": _PRODUCTS | _KERNELS | _DERIVATIVES,
    "tinygrad": set(tiny.CASES),
}
"""The cases of those peers that are not in all of them."""


def build(case: str, framework: str) -> Built:
    """Build a case.

    Raises:
        LookupError: the framework takes no part in it, or is not installed.
    """
    if case not in TAKES_PART.get(framework, CASES):
        raise LookupError(f"no {framework} version")
    try:
        return tiny.CASES[case]() if framework == "tinygrad" else CASES[case](framework)
    except ModuleNotFoundError as error:
        raise LookupError(f"{framework} is not installed") from error
