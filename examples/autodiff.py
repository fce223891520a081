"""Derivatives as programs: the textbook function ln(x1) + x1 x2 - sin(x2) at the point (2, 5).

The function is the running example of many surveys of automatic differentiation, such as that
of Baydin, Pearlmutter, Radul and Siskind (2018). From the root of the repository:

    python examples/autodiff.py
"""

from __future__ import annotations

from typing import Any

import funcdl as fd
import funcdl.numpy as fnp


def f(x1: Any, x2: Any) -> Any:
    """An ordinary function. Nothing in it knows of derivatives."""
    return fnp.log(x1) + x1 * x2 - fnp.sin(x2)


def show(title: str, *what: Any) -> None:
    """Print under a title."""
    print(f"\n## {title}\n")
    print(*what, sep="\n")


def main() -> None:
    """Look at the function and its derivatives in two styles."""
    x1, x2 = 2.0, 5.0

    # Eager: every operation computes at once, as in NumPy, and transforms of `f` are functions.
    show("Eager: the value and the gradient", f(x1, x2), fd.grad(f, argnums=(0, 1))(x1, x2))

    # Traced: `f` runs once on stand-ins for numbers, which record what is done to them.
    show("Traced: the program", fd.make_jaxpr(f)(x1, x2))

    # A transformed function can be traced like any other.
    show("The program of its gradient", fd.make_jaxpr(fd.grad(f, argnums=(0, 1)))(x1, x2))

    # Its derivative at the point is a linear function: what depends on the point alone is computed
    # once, here, and only what is linear remains to be done for each direction.
    _, derivative = fd.linearize(f, x1, x2)
    show("The linear program at (2, 5)", fd.make_jaxpr(derivative)(1.0, 0.0))

    # Forwards, a direction gives one number. Run backwards, the same program gives the gradient.
    show("Along x1, then along x2", derivative(1.0, 0.0), derivative(0.0, 1.0))
    show("Backwards", fd.linear_transpose(derivative, x1, x2)(1.0))

    # Compiled: the traced program as one call.
    gradient = fd.jit(fd.grad(f, argnums=(0, 1)))
    show("Compiled: the gradient", gradient(x1, x2))

    # By hand: df/dx1 = 1 / x1 + x2 and df/dx2 = x1 - cos(x2).
    show("By hand", (1 / x1 + x2, float(x1 - fnp.cos(x2))))


if __name__ == "__main__":
    main()
