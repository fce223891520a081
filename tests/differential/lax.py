"""Calls of funcdl.lax: those that the tests make elsewhere, and the rest as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.control.peer_programs import PROGRAMS
from tests.differential.calls import Call, calls, draw, each
from tests.lax import test_convolution, test_gaps, test_lax, test_monoids

Shapes = tuple[tuple[int, ...], ...]


def of_text(text: str, module: Any) -> Call:
    """A call of constant operands that another test makes, too."""
    return Call(
        text.removeprefix("[a.name for a in ").removeprefix("m.").split("(")[0].split(".")[0],
        text,
        lambda library: module.evaluate(text, library["m"]),
        lambda kind, sizes: [],
        typed=False,
    )


def of_program(name: str) -> Call:
    function, args = PROGRAMS[name]
    return Call(
        _LOOPS.get(name.split("_")[0], name.split("_")[0]),
        name,
        lambda library, *xs: function(library["lax"], library["jnp"], *xs),
        lambda kind, sizes: list(map(np.asarray, args)),
        typed=False,
    )


_LOOPS = {"fori": "fori_loop", "while": "while_loop"}


def of_convolution(text: str, f: Callable[..., Any], shapes: Shapes) -> Call:
    def operands(kind: str, sizes: Any) -> list[Any]:
        rng = np.random.default_rng(len(text))
        return [draw(rng, shape, kind, -2.0, 2.0) for shape in shapes]

    name = _WINDOWS.get(text, text.split()[0])
    return Call(name, text, lambda library, *xs: f(library["m"], *xs), operands)


_WINDOWS = {
    "conv general padding": "conv_with_general_padding",
    "conv dilated same": "conv_general_dilated",
    "conv batch groups": "conv_general_dilated",
    "max": "reduce_window",
    "sum": "reduce_window",
}

CALLS = [
    *each(
        "neg abs sign square exp exp2 expm1 sin cos tan atan sinh cosh tanh asinh", "m.{}(f[N, K])"
    ),
    *each("erf erfc floor ceil is_finite logistic cbrt reciprocal round", "m.{}(f[N, K])"),
    *each("log log1p sqrt rsqrt lgamma digamma bessel_i0e bessel_i1e", "m.{}(pos[N, K])"),
    *each("asin acos atanh erf_inv", "m.{}(unit[N, K])"),
    *each("add sub mul div rem max min atan2 nextafter", "m.{}(f[N, K], f[N, K])"),
    *each("eq ne lt le gt ge", "m.{}(f[N, K], f[N, K])"),
    *each(
        "igamma igammac igamma_grad_a zeta", "m.{}(between(1.2, 3)[N, K], between(1.2, 3)[N, K])"
    ),
    *each("pow random_gamma_grad", "m.{}(pos[N, K], pos[N, K])"),
    *each("bitwise_and bitwise_or bitwise_xor mulhi", "m.{}(i[N, K], i[N, K])"),
    *each("shift_left shift_right_logical shift_right_arithmetic", "m.{}(i[N, K], nat[N, K])"),
    *each("bitwise_not population_count clz", "m.{}(i[N, K])"),
    *each("real imag conj abs exp log sqrt", "m.{}(c[N, K])"),
    *each("cumsum cumprod cummax cummin cumlogsumexp", "m.{}(f[N, K], 0)"),
    *each("cumsum cummax cumlogsumexp", "m.{}(f[N, P], 1, reverse=True)"),
    *each("reduce_sum reduce_prod reduce_max reduce_min", "m.{}(f[N, P], (1,))"),
    *each("argmax argmin", "m.{}(f[N, P], 1, 'int32')"),
    *each("psum pmean pmax pmin", "jax.vmap(lambda x: m.{}(x, 'i'), axis_name='i')(f[P, K])"),
    *calls(
        [
            "m.acosh(between(1.1, 3)[N, K])",
            "m.betainc(pos[N, K], pos[N, K], between(0.1, 0.9)[N, K])",
            "m.polygamma(jnp.full((3, 4), 1.0), pos[3, 4])",
            "m.clamp(-1.0, f[N, K], f[N, K])",
            "m.select(b[N, K], f[N, K], f[N, K])",
            "m.convert_element_type(f[N, K], 'int32')",
            "m.convert_element_type(i[N, K], 'bfloat16')",
            "m.dot_general(f[P, N, K], f[P, K, L], (((2,), (1,)), ((0,), (0,))))",
            "m.sort((nat[N, K], f[N, K]), num_keys=2)",
            "m.top_k(f[N, P], 1)",
            "m.transpose(f[N, K, L], (2, 0, 1))",
            "m.integer_pow(f[N, K], 3)",
            "m.complex(f[N], f[N])",
            "m.fft(c[P, Q], 'fft', (2,))",
            "m.fft(f[P, 4], m.FftType.RFFT, (4,))",
            "m.DotDimensionNumbers",
            "m.conv_dimension_numbers((1, 2, 3), (2, 2, 2), ('NHC', 'HIO', 'NHC'))",
            "m.conv_general_permutations(('NHWC', 'HWIO', 'NHWC'))",
            "m.padtype_to_pads((5, 6), (2, 3), (1, 2), 'SAME')",
            "m.rng_bit_generator(np.arange(4, dtype='u4'), (5,))[1].shape",
            "m.composite(lambda x, k: x * k, 'my.scaled')(f[N], k=3)",
            "(lambda x: m.custom_root(lambda y: y * y - x, 1.5 * x, lambda f, y: (y + x / y) / 2, "
            "lambda g, y: y / g(jnp.ones_like(y))))(pos[N])",
            "m.custom_linear_solve(lambda x: 2 * x, f[N], lambda mv, b: b / 2, symmetric=True)",
            "jax.vmap(lambda x: m.all_gather(x, 'i'), axis_name='i')(f[P, K])",
            "jax.vmap(lambda x: m.all_gather(x, 'i', axis=1, tiled=True), "
            "axis_name='i')(f[P, 2, R])",
            "jax.vmap(lambda x: m.all_to_all(x, 'i', 0, 1), axis_name='i')(f[3, 3, 2])",
            "jax.vmap(lambda x: m.axis_index('i') * x, axis_name='i')(f[P, K])",
            "jax.vmap(lambda x: m.axis_size('i') * x, axis_name='i')(f[P, K])",
            "jax.vmap(lambda x: m.ppermute(x, 'i', [(0, 2), (1, 0), (2, 1)]), "
            "axis_name='i')(f[3, K])",
            "jax.vmap(lambda x: m.ppermute(x, 'i', [(0, 2), (1, 0)]), axis_name='i')(f[3, K])",
            "jax.vmap(lambda x: m.pshuffle(x, 'i', [2, 0, 1]), axis_name='i')(f[3, K])",
            "jax.vmap(lambda x: m.psum_scatter(x, 'i'), axis_name='i')(f[3, 3])",
            "jax.vmap(lambda x: m.psum_scatter(x, 'i', tiled=True), axis_name='i')(f[3, 6])",
            "jax.vmap(lambda x: m.pswapaxes(x, 'i', 0), axis_name='i')(f[3, 3, K])",
            "jax.vmap(lambda x: m.psum(x, 'i', axis_index_groups=[[0, 1], [2, 3]]), "
            "axis_name='i')(f[4, K])",
            "jax.vmap(lambda x: x * m.psum(2, 'i', axis_index_groups=[[0, 1], [2, 3]]), "
            "axis_name='i')(f[4, K])",
            "m.scaled_dot(f[3, 4], f[4, 2], lhs_scale=f[3, 2], rhs_scale=pos[1, 2], "
            "preferred_element_type='f4')",
            "m.scan(lambda c, x: (c * m.sin(x), c + x), f[K], f[P, K])",
            "m.fori_loop(0, 3, lambda i, c: m.sin(c) * i, f[N])",
            "m.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, f[N]))",
            "m.cond(b[()], m.sin, m.cos, f[N])",
            "m.switch(nat[()], [m.sin, m.cos, m.exp], f[N])",
            "m.map(lambda x: m.sin(x).sum(), f[P, K])",
            "m.associative_scan(m.mul, f[P, K])",
        ]
    ),
    *(of_text(text, test_lax) for text in test_lax.CALLS),
    *(of_text(text, test_gaps) for text in test_gaps.CALLS),
    *(of_convolution(name, *case) for name, case in test_convolution.CASES.items()),
    *map(of_program, PROGRAMS),
    *calls(
        test_monoids.PEER_CALLS,
        constants={
            "A": test_monoids.A,
            "B": test_monoids.B,
            "f32": np.float32,
            "compose": test_monoids.compose,
            "K": np.arange(12, dtype="i4").reshape(3, 4) * 7 % 9,
        },
    ),
]
