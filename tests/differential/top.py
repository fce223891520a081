"""Calls of functions of the package's top level: transforms, and what the tests make elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from tests.differential.calls import calls, each

_F = "lambda x: jnp.sin(x) * x[::-1]"

CALLS = [
    *calls(
        [
            "m.grad(lambda x: jnp.tanh(x).sum())(f[N, K])",
            "m.value_and_grad(lambda x, y: (jnp.sin(x) * y).sum(), (0, 1))(f[N, K], f[K])",
            f"m.jvp({_F}, (f[N],), (f[N],))",
            f"m.linearize({_F}, f[N])[1](f[N])",
            f"m.vjp({_F}, f[N])[1](f[N])",
            f"m.jit({_F})(f[N])",
            f"m.vmap({_F}, 1, 1)(f[N, K])",
            f"m.jacfwd({_F})(f[P])",
            f"m.jacrev({_F})(f[P])",
            f"m.jacobian({_F})(f[P])",
            f"m.hessian(lambda x: (({_F})(x) ** 2).sum())(f[P])",
            f"m.checkpoint({_F})(f[N])",
            f"m.remat({_F}, policy=m.checkpoint_policies.dots_saveable)(f[N])",
            "m.linear_transpose(lambda x: 2 * x[::-1], f[N])(f[N])",
            "m.fwd_and_bwd(jnp.sin, (0,))[1](m.fwd_and_bwd(jnp.sin, (0,))[0](f[N])[1], f[N])",
            "m.closure_convert(lambda x: x * 2, f[N])[0](f[N])",
            "m.custom_gradient(lambda x: (x * x, lambda g: g * 3 * x))(f[N])",
            "(lambda f: f.defjvps(lambda t, y, x: 2 * t * y) or f)(m.custom_jvp(jnp.sin))(f[N])",
            "m.named_call(jnp.sin, name='s')(f[N])",
            "m.pure_callback(lambda x: x == x, m.ShapeDtypeStruct((3,), 'bool'), f[3])",
            "m.eval_shape(jnp.sin, f[N]).shape",
            "m.numpy_dtype_promotion('standard') and f[N] * 1",
        ]
    ),
    *calls(
        [
            "m.device_get(jnp.arange(3.0))",
            "m.device_put(f[N])",
            "m.block_until_ready(jnp.arange(3))",
            "m.copy_to_host_async(jnp.arange(3))",
            "m.default_backend()",
            "m.device_count()",
            "m.local_device_count()",
            "m.process_count()",
            "m.process_index()",
            "len(m.devices())",
            "len(m.local_devices())",
            "m.process_indices()",
            "m.typeof(jnp.arange(3.0)).shape",
        ],
        traced=False,
    ),
]

REASONS: Mapping[str, str] = {
    "custom_vjp": "a decorator; tests/transforms/test_peers.py",
    "memory_stats profile": "its own; JAX has no such functions",
    "make_jaxpr": "programs are printed in another way; tests/core/test_printer.py",
    "checkpoint_name": "jax.ad_checkpoint's; tests/transforms/test_checkpoint.py",
    "io_callback": "jax.experimental's; tests/debug/test_callbacks.py",
    "effects_barrier": "returns nothing; tests/debug/test_callbacks.py",
    "check_tracer_leaks checking_leaks debug_infs debug_nans disable_jit explain_cache_misses "
    "debug_key_reuse log_compiles enable_checks ensure_compile_time_eval named_scope": (
        "settings for finding mistakes; tests/debug"
    ),
    "default_device default_matmul_precision enable_x64 numpy_rank_promotion": (
        "settings; tests/test_config.py, tests/test_toplevel.py"
    ),
    "clear_caches live_arrays print_environment_info": "states of a process, as above",
}

_SEGMENTS = "segment_sum segment_prod segment_max segment_min"

OPS = [
    *each(_SEGMENTS, "m.{}(f[5, K], np.array([0, 2, -1, 0, 3]), 3)"),
    *each(_SEGMENTS, "m.{}(f[5], np.array([0, 2, 1, 0, 3]), 4, bucket_size=2)"),
]
