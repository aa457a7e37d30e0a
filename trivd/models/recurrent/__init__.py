"""Recurrent units, interchangeable by name, each usable alone on (T, B, C, H, W) inputs."""

from typing import Literal

from trivd.config import ModelConfig
from trivd.models.recurrent.base import Activation, RecurrentUnit
from trivd.models.recurrent.gru import ConvGRU, KTrajGRU
from trivd.models.recurrent.lstm import ConvLSTM, DynamicConvLSTM
from trivd.models.recurrent.tsru import TSRU, Flow

__all__ = ["TSRU", "ConvGRU", "ConvLSTM", "DynamicConvLSTM", "KTrajGRU", "RecurrentUnit", "build_unit"]

FLOWS: dict[str, Flow] = {"tsru_c": "c", "tsru_p": "p", "tsru_s": "s"}


def build_unit(config: ModelConfig, channels: int) -> RecurrentUnit:
    """The unit `config.unit` with `channels` inputs and as many hidden channels."""
    activation: Activation
    if config.activation == "paper":
        activation = "tanh" if config.unit == "k_traj_gru" else "relu"
    else:
        activation = config.activation
    size = config.kernel_size
    if config.unit == "conv_gru":
        return ConvGRU(channels, channels, size, activation)
    if config.unit == "conv_lstm":
        return ConvLSTM(channels, channels, size, activation)
    if config.unit == "dynamic_conv_lstm":
        return DynamicConvLSTM(channels, channels, size, activation)
    if config.unit == "k_traj_gru":
        return KTrajGRU(channels, channels, size, config.warp_size, config.links, activation, config.warp_start)
    flow = FLOWS[config.unit.removeprefix("p")]
    warping: Literal["pixelwise", "factorized"] = "pixelwise" if config.unit.startswith("p") else "factorized"
    return TSRU(
        channels,
        channels,
        flow,
        warping,
        size,
        config.warp_size,
        config.read_gate,
        activation,
        config.warp_start,
    )
