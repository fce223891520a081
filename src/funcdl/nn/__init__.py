"""Neural networks as pure functions over pytrees: initialisers, activations, losses, layers.

Nothing here holds state. A layer is two functions: ``<layer>_init(key, sizes...)`` returns its
parameters as a pytree of arrays, ``<layer>_apply(params, x)`` computes it:

    params = nn.mlp_init(key, [784, 512, 10])
    logits = nn.mlp_apply(params, x)
    loss = nn.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

What a layer remembers is an argument and a result, too: the averages of `batch_norm_apply`, the
state of `lstm_apply`, the cache of `multi_head_attention_apply`. Sizes are read from the shapes of
the parameters, which hold arrays only.

Names and formulas of initialisers and activations are those of `jax.nn`, of losses those of optax.
There is no rule for derivatives here: functions are written so that the derivative of what is
written is cheap and finite (`where` around what may overflow, `stop_gradient` around a maximum that
cancels), and so that the compiler can fuse it.

A module of this package may import `funcdl.numpy`, `funcdl.lax`, `funcdl.random` and what stands
below them, and never `funcdl.optim` or `funcdl.image`.

Designs rejected:

* Layers as objects that own their arrays: a gradient is then no longer simply a pytree like the
  parameters. Modules that are pytrees themselves can be added later as a shell around these
  functions, which they would call.
* Layers as combinators, pairs of functions that `serial` composes: it reads well for a chain, but a
  residual connection or a shared weight needs a combinator of its own, where a function is enough.
"""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.nn import initializers
from funcdl.nn.activations import (
    celu,
    elu,
    gelu,
    glu,
    log1mexp,
    log_sigmoid,
    mish,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softplus,
    squareplus,
    swish,
    tanh,
)
from funcdl.nn.attention import dot_product_attention
from funcdl.nn.batch_normalization import (
    batch_norm_apply,
    batch_norm_fold,
    batch_norm_init,
)
from funcdl.nn.block_scaling import BlockScaleConfig, get_scaled_dot_general_config
from funcdl.nn.convolution import (
    conv_apply,
    conv_init,
    conv_transpose_apply,
    conv_transpose_init,
)
from funcdl.nn.dropout import (
    dropout,
)
from funcdl.nn.embeddings import (
    embedding_apply,
    embedding_attend,
    embedding_init,
)
from funcdl.nn.linear import linear_apply, linear_init
from funcdl.nn.losses import (
    mse,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from funcdl.nn.mlp import mlp_apply, mlp_init
from funcdl.nn.multi_head_attention import (
    multi_head_attention_apply,
    multi_head_attention_cache,
    multi_head_attention_init,
)
from funcdl.nn.normalization import (
    group_norm_apply,
    group_norm_init,
    instance_norm_apply,
    instance_norm_init,
    layer_norm_apply,
    layer_norm_init,
    rms_norm_apply,
    rms_norm_init,
)
from funcdl.nn.one_hot import one_hot
from funcdl.nn.piecewise import (
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    relu,
    relu6,
    sparse_plus,
    sparse_sigmoid,
)
from funcdl.nn.pooling import avg_pool, max_pool, min_pool, pool
from funcdl.nn.positions import (
    rotary_embedding,
    sinusoidal_positions,
)
from funcdl.nn.recurrent import (
    gru_apply,
    gru_init,
    lstm_apply,
    lstm_init,
    rnn_apply,
    rnn_init,
)
from funcdl.nn.recurrent_cells import (
    gru_cell_apply,
    gru_cell_init,
    lstm_cell_apply,
    lstm_cell_init,
    rnn_cell_apply,
    rnn_cell_init,
)
from funcdl.nn.scaled_dot_general import scaled_dot_general
from funcdl.nn.scaled_matmul import scaled_matmul
from funcdl.nn.standardize import standardize
from funcdl.nn.transformer_block import (
    transformer_block_apply,
    transformer_block_init,
)
from funcdl.scipy.special.normalized import log_softmax, logmeanexp, logsumexp, softmax

__getattr__ = getter(__name__)

__all__ = [
    "BlockScaleConfig",
    "avg_pool",
    "batch_norm_apply",
    "batch_norm_fold",
    "batch_norm_init",
    "celu",
    "conv_apply",
    "conv_init",
    "conv_transpose_apply",
    "conv_transpose_init",
    "dot_product_attention",
    "dropout",
    "elu",
    "embedding_apply",
    "embedding_attend",
    "embedding_init",
    "gelu",
    "get_scaled_dot_general_config",
    "glu",
    "group_norm_apply",
    "group_norm_init",
    "gru_apply",
    "gru_cell_apply",
    "gru_cell_init",
    "gru_init",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "initializers",
    "instance_norm_apply",
    "instance_norm_init",
    "layer_norm_apply",
    "layer_norm_init",
    "leaky_relu",
    "linear_apply",
    "linear_init",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "lstm_apply",
    "lstm_cell_apply",
    "lstm_cell_init",
    "lstm_init",
    "max_pool",
    "min_pool",
    "mish",
    "mlp_apply",
    "mlp_init",
    "mse",
    "multi_head_attention_apply",
    "multi_head_attention_cache",
    "multi_head_attention_init",
    "one_hot",
    "pool",
    "relu",
    "relu6",
    "rms_norm_apply",
    "rms_norm_init",
    "rnn_apply",
    "rnn_cell_apply",
    "rnn_cell_init",
    "rnn_init",
    "rotary_embedding",
    "scaled_dot_general",
    "scaled_matmul",
    "selu",
    "sigmoid",
    "silu",
    "sinusoidal_positions",
    "soft_sign",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
    "transformer_block_apply",
    "transformer_block_init",
]
