"""A long short-term memory layer (Hochreiter and Schmidhuber 1997) for funcdl, JAX and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as onp

from benchmarks.frameworks import normal


def parameters(inputs: int, units: int, layers: int) -> list[dict[str, onp.ndarray]]:
    """For each layer, the weights of its input and of its state; gates in the order i, f, g, o."""
    widths = [inputs] + [units] * (layers - 1)
    return [
        {
            "x": normal(width, 4 * units, scale=0.1, seed=2 * i),
            "h": normal(units, 4 * units, scale=0.1, seed=2 * i + 1),
        }
        for i, width in enumerate(widths)
    ]


def layer(np: Any, lax: Any, nn: Any, p: Any, xs: Any) -> Any:
    """f32[steps, batch, inputs] to f32[steps, batch, units]."""
    units = p["h"].shape[0]

    def cell(carry: Any, x: Any) -> Any:
        h, c = carry
        z = x @ p["x"] + h @ p["h"]
        i, f, g, o = (z[:, k * units : (k + 1) * units] for k in range(4))
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * np.tanh(g)
        h = nn.sigmoid(o) * np.tanh(c)
        return (h, c), h

    zero = np.zeros((xs.shape[1], units), xs.dtype)
    return lax.scan(cell, (zero, zero), xs)[1]


def torch_model(torch: Any, params: list[dict[str, onp.ndarray]]) -> Any:
    """The same as a torch.nn.LSTM."""
    inputs, units = params[0]["x"].shape[0], params[0]["h"].shape[0]
    model = torch.nn.LSTM(inputs, units, len(params), bias=False)
    with torch.no_grad():
        for i, p in enumerate(params):
            getattr(model, f"weight_ih_l{i}").copy_(torch.from_numpy(p["x"].T.copy()))
            getattr(model, f"weight_hh_l{i}").copy_(torch.from_numpy(p["h"].T.copy()))
    return model


def read(model: Any) -> list[dict[str, Any]]:
    """The parameters in the layout of `parameters`."""
    return [
        {
            "x": getattr(model, f"weight_ih_l{i}").T,
            "h": getattr(model, f"weight_hh_l{i}").T,
        }
        for i in range(model.num_layers)
    ]
