"""Layers with spectral normalisation, and how a network here takes over the weights of its trivd counterpart."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Module = TypeVar("Module", bound=nn.Module)


def normalized(layer: nn.Module) -> nn.Module:
    """The layer with a weight that starts orthogonal and is divided by its first singular value (A, E.2).

    Each use in training makes one power iteration; within `parametrize.cached`, only the first does.
    """
    nn.init.orthogonal_(layer.weight)  # type: ignore[arg-type]
    if isinstance(getattr(layer, "bias", None), Tensor):
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return spectral_norm(layer)


def conv(inputs: int, outputs: int, size: int = 3, dimensions: int = 2) -> nn.Module:
    """A convolution with zero padding: (B, in, [T,] H, W) -> (B, out, [T,] H, W)."""
    kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return normalized(kind(inputs, outputs, size, padding=size // 2))


def linear(inputs: int, outputs: int) -> nn.Module:
    """A linear layer: (..., in) -> (..., out)."""
    return normalized(nn.Linear(inputs, outputs))


class ClassEmbedding(nn.Embedding):
    """A vector for each class: (B,) int64 -> (B, dim); a network without classes has one class for all videos (A)."""

    def forward(self, labels: Tensor) -> Tensor:
        return super().forward(labels if self.num_embeddings > 1 else torch.zeros_like(labels))


def framewise(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of frames (B, C, H, W) applied to each time step of x (T, B, C, H, W)."""
    y: Tensor = layer(x.flatten(0, 1))
    return y.unflatten(0, x.shape[:2])


# --- Taking over the weights of trivd's networks: names that differ, and the tensors of a normalised layer

RENAMED = {
    "first.convolutions.kernel_features": "f.features",
    "first.convolutions.selection": "f.selection",
    "first.convolutions.": "w_",
    "gates.convolutions.": "w_",
    "candidate.convolutions.": "w_",
    "update.": "w_u.",
    "kernels.": "f.",
    "kernel_cnn.": "",
}
WEIGHT, U, V = (f"parametrizations.weight.{name}" for name in ("original", "0._u", "0._v"))
TENSORS = {"weight": WEIGHT, "left": U, "right": V, "bias": "bias"}
EMBEDDING_TENSORS = {"weight": WEIGHT, "left": V, "right": U}  # a class has a row here, a column in trivd


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `state_dict` of one of trivd's modules under the names of the same module in this package."""
    renamed = {}
    for name, value in state.items():
        kind = name.rpartition(".")[2]
        prefix = plain = name.removesuffix(kind)
        for theirs, ours in RENAMED.items():
            plain = plain.replace(theirs, ours)
        if f"{prefix}left" not in state:  # not of a normalised layer
            renamed[name] = value
        elif prefix.endswith("embedding."):
            renamed[plain + EMBEDDING_TENSORS[kind]] = value.mT if kind == "weight" else value
        else:
            renamed[plain + TENSORS[kind]] = value
    return renamed


def load(module: Module, state: Mapping[str, Tensor]) -> Module:
    """Give a module the weights, singular vectors and statistics of trivd's `state_dict`, and their device and type."""
    module.to(next(iter(state.values())))
    module.load_state_dict(plain_names(state))
    return module
