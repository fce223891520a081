"""The search for keys that are used twice: what it finds, what it lets pass, what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, random
from funcdl.errors import KeyReuseError


@pytest.fixture(autouse=True)
def _look() -> Iterator[None]:
    with fd.debug_key_reuse():
        yield


def draw_twice(key: Any) -> Any:
    return random.normal(key) + random.uniform(key)


def chained(key: Any, _: Any) -> Any:
    key, own = random.split(key)
    return key, random.normal(own)


def noisy(x: Any, key: Any) -> Any:
    return fnp.sin(x * random.normal(key))


REUSES: dict[str, Callable[[Any], Any]] = {
    "drawn_twice": draw_twice,
    "split_and_drawn": lambda key: (random.split(key), random.normal(key)),
    "split_twice": lambda key: (random.split(key), random.split(key)),
    "jit": fd.jit(draw_twice),
    "two_calls_of_jit": lambda key: [fd.jit(random.normal)(key) for _ in range(2)],
    "nested_jit": fd.jit(lambda key: fd.jit(random.normal)(key) + random.normal(key)),
    "closed_over_in_scan": lambda key: lax.scan(
        lambda c, _: (c + random.normal(key), None), 0.0, None, 3
    ),
    "closed_over_in_fori_loop": lambda key: lax.fori_loop(
        0, 3, lambda i, c: c + random.normal(key), 0.0
    ),
    "carry_not_split": lambda key: lax.scan(lambda k, _: (k, random.normal(k)), key, None, 3),
    "element_of_array": lambda key: [random.normal(random.split(key)[0]) for _ in range(2)],
    "element_after_vmap": lambda key: _element_after_vmap(random.split(key)),
    "equal_elements_of_vmap": lambda key: fd.vmap(random.normal)(fnp.stack([key, key])),
    "raw": lambda key: draw_twice(random.key_data(key)),
    "gamma": lambda key: (random.gamma(key, 2.0), random.normal(key)),
    "poisson": lambda key: (random.poisson(key, 2.0), random.normal(key)),
}


def _element_after_vmap(keys: Any) -> Any:
    return fd.vmap(random.normal)(keys), random.normal(keys[1])


@pytest.mark.parametrize("name", REUSES)
def test_found(name: str) -> None:
    with pytest.raises(KeyReuseError, match="a random key was used twice"):
        REUSES[name](random.key(0))


def test_found_in_gradients() -> None:
    for wrap in (fd.grad, lambda f: fd.jit(fd.grad(f))):
        key = random.key(0)
        with pytest.raises(KeyReuseError):
            wrap(lambda x, key=key: x * draw_twice(key))(1.0)


FINE: dict[str, Callable[[Any], Any]] = {
    "split": lambda key: [random.normal(k) for k in random.split(key, 3)],
    "clone": lambda key: (random.normal(key), random.uniform(random.clone(key))),
    "clone_in_jit": fd.jit(lambda key: random.normal(key) + random.normal(random.clone(key))),
    "fold_in": lambda key: [random.normal(random.fold_in(key, i)) for i in range(3)],
    "made_anew": lambda key: [random.normal(random.key(3)) for _ in range(2)],
    "wrapped_anew": lambda key: [
        random.normal(random.wrap_key_data(random.key_data(key))) for _ in range(2)
    ],
    "scan_over_keys": lambda key: lax.scan(
        lambda c, k: (c + random.normal(k), None), 0.0, random.split(key, 3)
    ),
    "carry_split": lambda key: lax.scan(chained, key, None, 3),
    "carry_split_in_jit": fd.jit(lambda key: lax.scan(chained, key, None, 3)),
    "one_of_two_branches": fd.jit(
        lambda key: lax.cond(random.key_data(key)[0] > 5, random.normal, random.uniform, key)
    ),
    "vmap": lambda key: fd.vmap(random.normal)(random.split(key, 3)),
    "checkpoint": lambda key: fd.grad(fd.checkpoint(noisy))(1.0, key),
    "checkpoint_in_jit": lambda key: fd.jit(fd.grad(fd.checkpoint(noisy)))(1.0, key),
    "checkpoint_in_scan": lambda key: fd.grad(
        lambda x: lax.scan(
            fd.checkpoint(lambda c, k: (noisy(c, k), None)), x, random.split(key, 3)
        )[0]
    )(1.0),
    "gradient_of_gamma": lambda key: fd.grad(lambda a: random.gamma(key, a))(2.0),
}


@pytest.mark.parametrize("name", FINE)
def test_not_found(name: str) -> None:
    FINE[name](random.key(0))


SAMPLERS: list[Callable[[Any], Any]] = [
    lambda key: random.ball(key, 3),
    lambda key: random.beta(key, 2.0, 3.0),
    lambda key: random.binomial(key, 100, 0.3, (3,)),
    lambda key: random.categorical(key, fnp.ones(3)),
    lambda key: random.choice(key, 5, (3,), p=fnp.ones(5) / 5),
    lambda key: random.dirichlet(key, fnp.ones(3)),
    lambda key: random.double_sided_maxwell(key, 0.0, 1.0),
    lambda key: random.f(key, 2.0, 3.0),
    lambda key: random.loggamma(key, 0.3, (3,)),
    lambda key: random.multinomial(key, 10, fnp.ones(3)),
    lambda key: random.normal(key, (2,), "complex64"),
    lambda key: random.permutation(key, 2000),
    lambda key: random.poisson(key, 20.0, (3,)),
    lambda key: random.randint(key, (3,), 0, 4),
    lambda key: random.t(key, 3.0),
    lambda key: random.wald(key, 3.0),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_use_a_key_once(sampler: Callable[[Any], Any]) -> None:
    key = random.key(0)
    sampler(key)
    fd.jit(fd.vmap(sampler))(random.split(random.key(1), 3))
    with pytest.raises(KeyReuseError):
        sampler(key)


def test_both_lines_are_shown() -> None:
    key = random.key(0)
    first = random.normal(key)
    with pytest.raises(KeyReuseError) as caught:
        fd.jit(lambda k: first + random.uniform(k))(key)
    lines = str(caught.value).splitlines()
    assert lines[0] == "a random key was used twice:"
    assert lines[1].startswith(f"  first at {__file__}:")
    assert lines[1].endswith("(test_both_lines_are_shown): first = random.normal(key)")
    assert lines[2].startswith(f"  again at {__file__}:")
    assert lines[2].endswith("fd.jit(lambda k: first + random.uniform(k))(key)")
    other = random.key(1)
    with pytest.raises(KeyReuseError, match="again on that line"):
        lax.scan(lambda c, _: (c, random.normal(other)), 0, None, 2)


def test_the_flag() -> None:
    key = random.key(0)
    draw = fd.jit(random.normal)
    wanted = draw(key)
    with fd.debug_key_reuse(False):
        np.testing.assert_allclose([draw(key), draw(key)], wanted, rtol=1e-6)
        program = fd.make_jaxpr(random.normal)(key)
        assert "key_use" not in str(program)
        assert random.clone(key) is key
    assert "key_use" in str(fd.make_jaxpr(random.normal)(key))
    # The table of used keys is a new one.
    draw(key)
    with pytest.raises(KeyReuseError):
        draw(key)
