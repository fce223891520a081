"""Second derivatives at work: Newton's method, curvature without matrices, gradients per example.

The same pure function, the loss of a logistic regression, goes through `grad`, `hessian`, `jvp` and
`vmap` in different nestings. From the root of the repository:

    python examples/newton.py

1. Newton's method with the whole Hessian: a handful of steps, each squaring the error, where
   gradient descent takes thousands.
2. Newton's method without any matrix: conjugate gradients need only products of the Hessian and a
   vector, and such a product is the derivative of the gradient in one direction (Pearlmutter, "Fast
   exact multiplication by the Hessian", 1994).
3. The gradient of every example, by `vmap`: which example pulls hardest?

The data is scikit-learn's on 569 tumours, 30 numbers each; the labels tell the benign ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn

try:
    from sklearn.datasets import load_breast_cancer
except ImportError:
    raise SystemExit(
        "This example needs scikit-learn; install what all examples need with\n"
        "    pip install -e '.[examples]'"
    ) from None

PENALTY = 1e-3


def load_data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Standardized features f32[569, 30] and labels f32[569], 1 or -1."""
    features, labels = load_breast_cancer(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return features.astype(np.float32), (2 * labels - 1).astype(np.float32)


def example_loss(w: Any, x: Any, y: Any) -> Any:
    """The surprise by one label, and the penalty on large weights."""
    return nn.softplus(-y * (x @ w)) + PENALTY * (w @ w)


def loss(w: Any, x: Any, y: Any) -> Any:
    """The mean over examples: f32[30], f32[569, 30], f32[569] to f32[]."""
    return fd.vmap(example_loss, (None, 0, 0))(w, x, y).mean()


def descend(w: Any, x: Any, y: Any) -> Any:
    """A step of gradient descent."""
    return w - 0.5 * fd.grad(loss)(w, x, y)


def newton(w: Any, x: Any, y: Any) -> Any:
    """To the minimum of the parabola that touches the loss here."""
    return w - fnp.linalg.solve(fd.hessian(loss)(w, x, y), fd.grad(loss)(w, x, y))


def newton_without_matrix(w: Any, x: Any, y: Any) -> Any:
    """The same step, by products of the Hessian and vectors alone."""

    def slope(w: Any) -> Any:
        return fd.grad(loss)(w, x, y)

    def curvature(v: Any) -> Any:
        return fd.jvp(slope, (w,), (v,))[1]

    return w - conjugate_gradients(curvature, slope(w), num_steps=30)


def conjugate_gradients(matvec: Callable[[Any], Any], b: Any, num_steps: int) -> Any:
    """The x with matvec(x) = b, for a symmetric positive map (Hestenes and Stiefel, 1952)."""

    def improve(_: Any, state: Any) -> Any:
        x, rest, direction, size = state
        image = matvec(direction)
        length = size / fnp.maximum(direction @ image, 1e-30)
        x, rest = x + length * direction, rest - length * image
        new_size = rest @ rest
        return x, rest, rest + new_size / fnp.maximum(size, 1e-30) * direction, new_size

    state = fnp.zeros_like(b), b, b, b @ b
    return lax.fori_loop(0, num_steps, improve, state)[0]


def main() -> None:
    """Race the three methods, and look at single examples."""
    parser = argparse.ArgumentParser(description="Second derivatives at work.")
    parser.add_argument("--steps", type=int, default=2000, help="of gradient descent")
    args = parser.parse_args()
    x, y = load_data()

    minimum = fnp.zeros(30)
    for _ in range(20):
        minimum = newton(minimum, x, y)

    races = ((newton, 8), (newton_without_matrix, 8), (descend, args.steps))
    for method, num_steps in races:
        print(f"\n{method.__name__}: steps, loss, length of the gradient")
        step, w = fd.jit(method), fnp.zeros(30)
        for i in range(num_steps + 1):
            if i % max(1, num_steps // 8) == 0:
                value, slope = fd.value_and_grad(loss)(w, x, y)
                print(f"{i:6}  {value:.6f}  {fnp.linalg.norm(slope):.1e}")
            w = step(w, x, y)

    by_example = fd.jit(fd.vmap(fd.grad(example_loss), (None, 0, 0)))(minimum, x, y)
    pulls = fnp.linalg.norm(by_example, axis=1)
    print(f"\nOne gradient for each example: {by_example.shape}; at the minimum they cancel:")
    length = fnp.linalg.norm(by_example.mean(axis=0))
    print(f"mean of lengths {pulls.mean():.3f}, length of the mean {length:.1e}")
    print(f"pulls of the hardest three: {np.sort(pulls)[:-4:-1].round(2)}")


if __name__ == "__main__":
    main()
