"""Multi-head attention and transformer blocks beside PyTorch's; decoding with a cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, random
from funcdl.errors import ArgumentError, DtypeError, ShapeError, TreeError
from funcdl.test_util import check_grads

KEY = random.key(0)
RNG = np.random.default_rng(0)
B, T, S, E, M = 2, 6, 5, 8, 3  # batch, queries, positions of the memory, features of both
NAME = "multi_head_attention"
layers: Any = nn  # whose types do not matter here
init, apply = nn.multi_head_attention_init, nn.multi_head_attention_apply


def drawn(params: Any) -> Any:
    """Biases and scales that do something."""
    return fd.tree.map(lambda p: fnp.asarray(RNG.normal(0, 0.5, p.shape), p.dtype), params)


def inputs(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


def flat(part: Any, heads: slice = slice(None)) -> Any:
    """Weights and biases as PyTorch has them."""
    w, b = np.asarray(part["w"]), np.asarray(part["b"])
    if b.ndim == 1:  # out
        return w.reshape(-1, w.shape[-1]).T, b
    return w[:, heads].reshape(len(w), -1).T, b[heads].ravel()


def to_torch(torch: Any, params: Any, module: Any, heads: int) -> None:
    with torch.no_grad():
        if "qkv" in params:
            w, b = flat(params["qkv"])
            module.in_proj_weight.copy_(torch.tensor(w.copy()))
        else:
            (q, q_b), (k, k_b), (v, v_b) = (
                flat(params["q"]),
                flat(params["kv"], slice(heads)),
                flat(params["kv"], slice(heads, None)),
            )
            for name, w in (("q", q), ("k", k), ("v", v)):
                getattr(module, f"{name}_proj_weight").copy_(torch.tensor(w.copy()))
            b = np.concatenate([q_b, k_b, v_b])
        module.in_proj_bias.copy_(torch.tensor(b))
        w, b = flat(params["out"])
        module.out_proj.weight.copy_(torch.tensor(w.copy()))
        module.out_proj.bias.copy_(torch.tensor(b))


@pytest.mark.parametrize("kind", ["self", "causal", "mask", "cross", "cross_of_another_size"])
def test_attention_is_that_of_pytorch(kind: str) -> None:
    torch = pytest.importorskip("torch")
    size = M if kind == "cross_of_another_size" else E
    params = drawn(init(KEY, E, 4, memory_features=size if size == M else None))
    module = torch.nn.MultiheadAttention(E, 4, kdim=size, vdim=size, batch_first=True)
    to_torch(torch, params, module, 4)
    x = inputs(B, T, E)
    memory = inputs(B, S, size) if kind.startswith("cross") else None
    options: dict[str, Any] = {"is_causal": True} if kind == "causal" else {}
    hidden = None
    if kind == "causal":
        hidden = ~np.tril(np.ones((T, T), bool))
    if kind == "mask":
        hidden = RNG.random((T, T)) < 0.3
        hidden[:, 0] = False
        options["mask"] = ~hidden
    there = torch.tensor(x if memory is None else memory)
    expected, _ = module(
        torch.tensor(x),
        there,
        there,
        attn_mask=None if hidden is None else torch.tensor(hidden),
        need_weights=False,
    )
    for f in (apply, fd.jit(apply, static_argnames="is_causal")):
        found = f(params, x, memory, **options)
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    alone = fd.vmap(lambda x, m: apply(params, x, m, **options))(x, memory)
    np.testing.assert_allclose(alone, found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("memory", [False, True], ids=["self", "cross"])
def test_blocks_are_those_of_pytorch(memory: bool, norm_first: bool) -> None:
    torch = pytest.importorskip("torch")
    params = drawn(nn.transformer_block_init(KEY, E, 2, memory_features=E if memory else None))
    if memory:
        # PyTorch's keys, queries and values of one size lie side by side.
        cross = {
            name: fnp.concatenate([params["cross"]["q"][name], params["cross"]["kv"][name]], -2)
            for name in ("w", "b")
        }
        both = {"qkv": cross, "out": params["cross"]["out"]}
    kind = "Decoder" if memory else "Encoder"
    module = getattr(torch.nn, f"Transformer{kind}Layer")(
        E, 2, 4 * E, dropout=0.0, batch_first=True, norm_first=norm_first
    ).eval()
    to_torch(torch, params["attention"], module.self_attn, 2)
    norms = ("norm1", "norm3", "norm2") if memory else ("norm1", "norm2")
    if memory:
        to_torch(torch, both, module.multihead_attn, 2)
    with torch.no_grad():
        for i, name in enumerate(norms, 1):
            norm = getattr(module, f"norm{i}")
            norm.weight.copy_(torch.tensor(np.asarray(params[name]["scale"])))
            norm.bias.copy_(torch.tensor(np.asarray(params[name]["shift"])))
        for i, p in enumerate(params["mlp"], 1):
            linear = getattr(module, f"linear{i}")
            linear.weight.copy_(torch.tensor(np.asarray(p["w"]).T.copy()))
            linear.bias.copy_(torch.tensor(np.asarray(p["b"])))
    x = inputs(B, T, E)
    given = (inputs(B, S, E),) if memory else ()
    found = nn.transformer_block_apply(params, x, *given, norm_first=norm_first, activation=nn.relu)
    expected = module(*map(torch.tensor, (x, *given))).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_groups_are_heads_that_share_keys() -> None:
    grouped = drawn(init(KEY, E, 4, kv_heads=2))
    assert grouped["qkv"]["w"].shape == (E, 4 + 2 * 2, 2)
    order = np.array([0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7])
    whole = {
        "qkv": {"w": grouped["qkv"]["w"][:, order], "b": grouped["qkv"]["b"][order]},
        "out": grouped["out"],
    }
    x = inputs(B, T, E)
    np.testing.assert_allclose(apply(grouped, x), apply(whole, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rotary_base", [None, 100.0])
def test_a_cache_gives_what_the_whole_sequence_gives(rotary_base: float | None) -> None:
    params = drawn(init(KEY, E, 4, kv_heads=2))
    x = inputs(B, T, E)
    expected = apply(params, x, is_causal=True, rotary_base=rotary_base)
    step = fd.jit(lambda x, cache: apply(params, x, cache=cache, rotary_base=rotary_base))
    for pieces in ([1] * T, [3, 1, 2], [T]):
        cache = nn.multi_head_attention_cache(params, T + 3, B)
        start = 0
        for size in pieces:
            out, cache = step(x[:, start : start + size], cache)
            wanted = expected[:, start : start + size]
            np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
            start += size
            assert int(cache["index"]) == start


def test_a_cache_in_a_loop() -> None:
    params = drawn(nn.transformer_block_init(KEY, E, 2, norm_init=nn.rms_norm_init))
    x = inputs(T, E)

    def block(x: Any, **options: Any) -> Any:
        return nn.transformer_block_apply(params, x, norm_apply=nn.rms_norm_apply, **options)

    def step(cache: Any, x: Any) -> Any:
        out, cache = block(x[None], cache=cache)
        return cache, out[0]

    cache = nn.multi_head_attention_cache(params["attention"], T)
    last, out = fd.jit(lambda cache: lax.scan(step, cache, x))(cache)
    np.testing.assert_allclose(out, block(x, is_causal=True), rtol=1e-4, atol=1e-5)
    assert {name: a.shape for name, a in last.items()} == {
        "key": (T, 2, 4),
        "value": (T, 2, 4),
        "index": (),
    }


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(dtype: str) -> None:
    params = nn.transformer_block_init(KEY, E, 2, memory_features=M, dtype=dtype)
    assert {p.dtype.name for p in fd.tree.leaves(params)} == {dtype}
    x, memory = inputs(B, T, E), inputs(B, S, M)
    out = nn.transformer_block_apply(
        params, fnp.asarray(x, dtype), fnp.asarray(memory, dtype), is_causal=True, rotary_base=1e4
    )
    assert (out.dtype.name, out.shape) == (dtype, x.shape)
    wide = fd.tree.map(lambda p: p.astype("float64"), params)
    expected = nn.transformer_block_apply(
        wide, x.astype(np.float64), memory, is_causal=True, rotary_base=1e4
    )
    tolerance = {"float16": 2e-2, "bfloat16": 0.15, "float32": 1e-4, "float64": 1e-6}[dtype]
    found = np.asarray(out, np.float64)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    mixed = nn.transformer_block_apply(params, x, memory)
    assert mixed.dtype.name == ("float64" if dtype == "float64" else "float32")


def test_derivatives() -> None:
    params = drawn(
        nn.transformer_block_init(KEY, 4, 2, kv_heads=1, memory_features=3, dtype="float64")
    )
    x, memory = RNG.normal(size=(1, 3, 4)), RNG.normal(size=(1, 2, 3))

    def loss(params: Any, x: Any, memory: Any) -> Any:
        out = nn.transformer_block_apply(params, x, memory, is_causal=True, rotary_base=50.0)
        return (out**2).sum()

    check_grads(loss, (params, x, memory), order=1)
    eager = fd.grad(loss)(params, x, memory)
    jitted = fd.jit(fd.grad(fd.jit(loss)))(params, x, memory)
    fd.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), eager, jitted)


def test_dropout() -> None:
    params = nn.transformer_block_init(KEY, E, 2)
    x = inputs(B, T, E)
    plain = nn.transformer_block_apply(params, x, dropout_rate=0.5)
    one, two = (
        nn.transformer_block_apply(params, x, dropout_rate=0.5, dropout_key=k, train=True)
        for k in random.split(KEY)
    )
    assert (np.asarray(one) != np.asarray(two)).any() and (np.asarray(one) != plain).any()
    # With everything dropped, nothing is added.
    all_dropped = nn.transformer_block_apply(
        params, x, dropout_rate=1.0, dropout_key=KEY, train=True
    )
    np.testing.assert_array_equal(all_dropped, x)
    dropped = apply(params["attention"], x, dropout_rate=0.5, dropout_key=KEY)
    assert (np.asarray(dropped) != np.asarray(apply(params["attention"], x))).any()


def test_sizes() -> None:
    params = init(KEY, 6, 4, head_size=5, b_init=None)
    assert fd.tree.map(lambda p: p.shape, params) == {
        "qkv": {"w": (6, 12, 5)},
        "out": {"w": (4, 5, 6)},
    }
    assert apply(params, np.zeros((0, 3, 6), np.float32)).shape == (0, 3, 6)
    assert apply(params, np.zeros((2, 0, 6), np.float32)).shape == (2, 0, 6)
    wide = init(KEY, 64, 4, head_size=32)["qkv"]["w"]
    np.testing.assert_allclose(np.asarray(wide).var(), 1 / 64, rtol=0.1)


SELF, CROSS = init(KEY, E, 2), init(KEY, E, 2, memory_features=M)
BLOCK = nn.transformer_block_init(KEY, E, 2)
BOTH = nn.transformer_block_init(KEY, E, 2, memory_features=M)
CACHE = nn.multi_head_attention_cache(SELF, 4, B)
X, Y = np.zeros((B, T, E), np.float32), np.zeros((B, S, M), np.float32)
block = layers.transformer_block_apply
attend = layers.multi_head_attention_apply
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: attend({}, X), TreeError, "with 'qkv' and 'out', as .*got a dict with nothing"),
    (lambda: attend({"q": 1}, X), TreeError, "with 'q', 'kv' and 'out', as .* a dict with 'q'$"),
    (lambda: attend(SELF | {"out": 1}, X), TreeError, r"params\['out'\] must be a dict with 'w'"),
    (lambda: attend(SELF | {"out": {"w": X[0]}}, X), ShapeError, r"got qkv .*, out \(6, 8\)"),
    (lambda: attend(SELF, X[0, 0]), ShapeError, r"x must have shape \(batch, length, features\)"),
    (lambda: attend(SELF, X[..., 1:]), ShapeError, r"f32\[2,6,7\] and w f32\[8,6,4\]"),
    (lambda: attend(CROSS, X), ArgumentError, "for cross attention: pass the memory"),
    (lambda: attend(SELF, X, Y), ShapeError, r"f32\[2,5,3\] and w f32\[8,4,4\]"),
    (lambda: attend(CROSS, X, Y, rotary_base=1.0), ArgumentError, "memory goes neither with"),
    (lambda: attend(SELF, X, cache={}), TreeError, "'key', 'value' and 'index', as"),
    (lambda: attend(SELF, X, cache=CACHE), ShapeError, r"\(2, length, 2, 4\) .* at least 6, got"),
    (
        lambda: attend(SELF, X[:, :2], mask=np.zeros((2, 4)), cache=CACHE),
        DtypeError,
        r"mask must be bool, got f64\[2,4\]; write mask != 0, or add a bias",
    ),
    (lambda: attend(SELF, X, is_causal=[]), ArgumentError, "is_causal must be True or False"),
    (lambda: layers.multi_head_attention_cache(CROSS, 4), TreeError, "without memory_features"),
    (lambda: layers.multi_head_attention_init(KEY, 6, 4), ShapeError, "must divide features=6"),
    (
        lambda: layers.multi_head_attention_init(KEY, 8, 4, kv_heads=3),
        ShapeError,
        "kv_heads=3 must divide heads=4",
    ),
    (
        lambda: layers.multi_head_attention_init(KEY, 8, 0),
        ArgumentError,
        "heads must be at least 1",
    ),
    (lambda: block({}, X), TreeError, "with 'norm1', 'attention', 'norm2' and 'mlp', as"),
    (lambda: block(BLOCK, X, Y), ArgumentError, "a memory needs params with 'cross': pass"),
    (lambda: block(BOTH, X), ArgumentError, "need a memory to look into"),
    (lambda: block(BLOCK, X, norm_apply=1), ArgumentError, "as norm_apply"),
    (lambda: block(BLOCK, X, dropout_rate=0.5, train=True), ArgumentError, "pass dropout_key"),
    (lambda: block(BLOCK, X, dropout_rate=2, train=True), ArgumentError, r"in \[0, 1\].* 2$"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
