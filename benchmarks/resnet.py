"""A nine-layer residual network for 32×32 images, for funcdl, JAX and PyTorch.

Convolutions 3×3 with batch norm and ReLU; widths grow at each max pooling; two residual blocks
(He et al. 2015). The batch's own statistics normalise, as in training.
"""

from __future__ import annotations

from typing import Any

import numpy as onp

from benchmarks.frameworks import normal

WIDTHS = (32, 64, 128, 256)
# Name, input width, output width, whether pooling follows, for the layers in order.
LAYERS = (
    ("prep", 3, WIDTHS[0], False),
    ("conv1", WIDTHS[0], WIDTHS[1], True),
    ("res1a", WIDTHS[1], WIDTHS[1], False),
    ("res1b", WIDTHS[1], WIDTHS[1], False),
    ("conv2", WIDTHS[1], WIDTHS[2], True),
    ("conv3", WIDTHS[2], WIDTHS[3], True),
    ("res3a", WIDTHS[3], WIDTHS[3], False),
    ("res3b", WIDTHS[3], WIDTHS[3], False),
)


def parameters() -> dict[str, Any]:
    """Weights HWIO, with the variance of He et al.; batch norm starts at scale 1, shift 0."""
    result: dict[str, Any] = {
        name: {
            "w": normal(3, 3, a, b, scale=(2 / (9 * a)) ** 0.5, seed=i),
            "scale": onp.ones(b, onp.float32),
            "shift": onp.zeros(b, onp.float32),
        }
        for i, (name, a, b, _) in enumerate(LAYERS)
    }
    return result | {"head": {"w": normal(WIDTHS[3], 10, scale=0.05)}}


def _pool(np: Any, lax: Any, x: Any, size: int) -> Any:
    window = (1, size, size, 1)
    return lax.reduce_window(x, onp.float32(-onp.inf), lax.max, window, window, "VALID")


def loss(np: Any, lax: Any, nn: Any, p: Any, x: Any, y: Any) -> Any:
    """Mean cross-entropy of f32[batch, 32, 32, 3] images and int32[batch] labels."""
    skip = None
    for name, _, _, pooled in LAYERS:
        if name.endswith("a"):
            skip = x
        q = p[name]
        x = lax.conv_general_dilated(
            x, q["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean = np.mean(x, axis=(0, 1, 2))
        variance = np.mean((x - mean) ** 2, axis=(0, 1, 2))
        x = nn.relu((x - mean) / np.sqrt(variance + 1e-5) * q["scale"] + q["shift"])
        if pooled:
            x = _pool(np, lax, x, 2)
        if name.endswith("b"):
            x = x + skip
    logits = np.max(x, axis=(1, 2)) @ p["head"]["w"]
    return -np.mean(np.take_along_axis(nn.log_softmax(logits), y[:, None], axis=-1))


def torch_model(torch: Any, params: dict[str, Any]) -> Any:
    """The same as a torch.nn.Module in channels_last."""
    nn, functional = torch.nn, torch.nn.functional

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv2d(a, b, 3, padding=1, bias=False) for _, a, b, _ in LAYERS
            )
            self.norms = nn.ModuleList(
                nn.BatchNorm2d(b, track_running_stats=False) for _, _, b, _ in LAYERS
            )
            self.head = nn.Linear(WIDTHS[3], 10, bias=False)

        def forward(self, x: Any) -> Any:
            skip = None
            for (name, _, _, pooled), conv, norm in zip(
                LAYERS, self.convs, self.norms, strict=True
            ):
                if name.endswith("a"):
                    skip = x
                x = functional.relu(norm(conv(x)))
                if pooled:
                    x = functional.max_pool2d(x, 2)
                if name.endswith("b"):
                    x = x + skip
            return self.head(x.amax((2, 3)))

    model = Net()
    with torch.no_grad():
        for (name, *_), conv in zip(LAYERS, model.convs, strict=True):
            conv.weight.copy_(torch.from_numpy(params[name]["w"].transpose(3, 2, 0, 1).copy()))
        model.head.weight.copy_(torch.from_numpy(params["head"]["w"].T.copy()))
    return model.to(memory_format=torch.channels_last)


def read(model: Any) -> dict[str, Any]:
    """The parameters in the layout of `parameters`."""
    result: dict[str, Any] = {
        name: {"w": conv.weight.permute(2, 3, 1, 0), "scale": norm.weight, "shift": norm.bias}
        for (name, *_), conv, norm in zip(LAYERS, model.convs, model.norms, strict=True)
    }
    return result | {"head": {"w": model.head.weight.T}}
