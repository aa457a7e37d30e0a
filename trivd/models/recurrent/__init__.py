"""Recurrent units, interchangeable by name, each usable alone on (T, B, C, H, W) inputs."""

from trivd.config import ModelConfig
from trivd.models.recurrent.base import Activation, RecurrentUnit
from trivd.models.recurrent.gru import ConvGRU, KTrajGRU
from trivd.models.recurrent.lstm import ConvLSTM, DynamicConvLSTM
from trivd.models.recurrent.tsru import TSRU, Flow

__all__ = ["TSRU", "ConvGRU", "ConvLSTM", "DynamicConvLSTM", "KTrajGRU", "RecurrentUnit", "build_unit"]

UNWARPED: dict[str, type[ConvGRU] | type[ConvLSTM] | type[DynamicConvLSTM]] = {
    "conv_gru": ConvGRU,
    "conv_lstm": ConvLSTM,
    "dynamic_conv_lstm": DynamicConvLSTM,
}
FLOWS: dict[str, Flow] = {"tsru_c": "c", "tsru_p": "p", "tsru_s": "s"}


def build_unit(config: ModelConfig, channels: int, resolution: int) -> RecurrentUnit:
    """The unit `config.unit` of a resolution, with `channels` inputs and as many hidden channels."""
    activation: Activation
    if config.activation == "paper":
        activation = "tanh" if config.unit == "k_traj_gru" else "relu"
    else:
        activation = config.activation
    if config.unit in UNWARPED:
        return UNWARPED[config.unit](
            channels,
            channels,
            kernel_size=config.kernel_size,
            activation=activation,
            gate_bias=config.gate_bias,
        )
    if config.unit == "k_traj_gru":
        return KTrajGRU(
            channels,
            channels,
            kernel_size=config.kernel_size,
            warp_size=config.warp_size_at(resolution),
            warp_kernels=config.warp_kernels,
            warp_hidden=config.warp_hidden,
            warp_padding=config.warp_padding,
            links=config.links,
            activation=activation,
            warp_start_weight=config.warp_start_weight,
            gate_bias=config.gate_bias,
        )
    return TSRU(
        channels,
        channels,
        flow=FLOWS[config.unit.removeprefix("p")],
        warping="pixelwise" if config.unit.startswith("p") else "factorized",
        kernel_size=config.kernel_size,
        warp_size=config.warp_size_at(resolution),
        warp_kernels=config.warp_kernels,
        warp_hidden=config.warp_hidden,
        warp_padding=config.warp_padding,
        read_gate=config.read_gate,
        activation=activation,
        warp_start_weight=config.warp_start_weight,
        gate_bias=config.gate_bias,
    )
