"""Calls of funcdl.nn and funcdl.nn.initializers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tests.differential.calls import Call, calls, each
from tests.nn.test_activation_table import PEER_CALLS
from tests.nn.test_attention import CASES, operands

# Where the pieces of a function meet, too.
X = np.concatenate([np.arange(-7, 8), [-0.3, 0.2, 0.71, 1.4]]).astype(np.float32)


def _attention(name: str) -> Call:
    return Call(
        "dot_product_attention",
        f"dot_product_attention {name}",
        lambda library, *xs: library["m"].dot_product_attention(*xs, **CASES[name]),
        lambda kind, sizes: [np.asarray(x) for x in operands()],
        typed=False,
    )


_POINTWISE = """
    celu elu gelu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid mish
    relu relu6 selu sigmoid silu soft_sign softplus sparse_plus sparse_sigmoid squareplus swish tanh
"""

CALLS: list[Call] = [
    *each(_POINTWISE, "m.{}(f[N, K])"),
    *each("softmax log_softmax logsumexp logmeanexp standardize", "m.{}(f[N, P])"),
    *each("softmax log_softmax", "m.{}(f[N, P], axis=0, where=b[N, P])"),
    *calls(
        [
            "m.log1mexp(pos[N, K])",
            "m.glu(f[N, 4])",
            "m.one_hot(nat[N], 4)",
            "m.one_hot(f[N], 3, axis=0, dtype='bfloat16')",
            "m.logsumexp(f[N, P], 1, b=f[N, P], return_sign=True)",
            "m.logmeanexp(f[N, P], 1, where=b[N, P])",
            "m.standardize(f[N, P], mean=0.5, variance=2.0)",
            "m.leaky_relu(f[N], 0.2)",
            "m.gelu(f[N], approximate=False)",
            "m.elu(f[N], 0.5)",
        ]
    ),
    *map(_attention, CASES),
    *calls(PEER_CALLS, constants={"x": X, "abs": abs}),
]

REASONS: Mapping[str, str] = {
    "linear_init linear_apply mlp_init mlp_apply mse": "layers of its own; tests/nn/test_layers.py",
    "conv_init conv_apply conv_transpose_init conv_transpose_apply": "layers of its own; "
    "tests/nn/test_convolution_layers.py",
    "layer_norm_init layer_norm_apply rms_norm_init rms_norm_apply group_norm_init "
    "group_norm_apply instance_norm_init instance_norm_apply batch_norm_init batch_norm_apply "
    "batch_norm_fold": "layers of its own; tests/nn/test_normalization.py",
    "dropout embedding_init embedding_apply embedding_attend sinusoidal_positions "
    "rotary_embedding": "layers of its own; tests/nn/test_embeddings.py",
    "rnn_init rnn_apply rnn_cell_init rnn_cell_apply lstm_init lstm_apply lstm_cell_init "
    "lstm_cell_apply gru_init gru_apply gru_cell_init gru_cell_apply": "layers of its own; "
    "tests/nn/test_recurrent.py",
    "multi_head_attention_init multi_head_attention_apply multi_head_attention_cache "
    "transformer_block_init transformer_block_apply": "layers of its own; "
    "tests/nn/test_transformer.py",
    "softmax_cross_entropy softmax_cross_entropy_with_integer_labels": "tests/nn/test_losses.py",
    "pool avg_pool max_pool min_pool": "flax.linen's; tests/nn/test_pooling.py",
    "scaled_matmul": "JAX has it on GPUs only; tests/nn/test_scaled_matmul.py",
    "scaled_dot_general get_scaled_dot_general_config BlockScaleConfig": "JAX computes it on GPUs "
    "only; tests/nn/test_scaled_dot_general.py",
}

_SCALED = """
    glorot_normal glorot_uniform he_normal he_uniform kaiming_normal kaiming_uniform lecun_normal
    lecun_uniform normal truncated_normal uniform xavier_normal xavier_uniform
"""

INITIALIZERS = [
    *each(_SCALED, "m.{}()(key, (5, 4))"),
    *each(
        "glorot_uniform he_normal",
        "m.{}(in_axis=0, out_axis=(1, 2), batch_axis=3)(key, (5, 4, 2, 3))",
    ),
    *each("lecun_normal uniform", "m.{}(dtype='bfloat16')(key, (3, 4))"),
    *each("zeros ones", "m.{}(key, (2, 3))"),
    *each("orthogonal", "m.{}()(key, (5, 3))"),
    *each("delta_orthogonal", "m.{}()(key, (3, 2, 4))"),
    *calls(
        [
            "m.constant(3.5)(key, (2, 3), jnp.float16)",
            "m.variance_scaling(2.0, 'fan_avg', 'truncated_normal')(key, (3, 4))",
            "m.variance_scaling(2.0, 'fan_out', 'uniform')(key, (3, 4), jnp.complex64)",
        ]
    ),
]
