"""ConvGRU (Eq 1-5) and its kernel-based trajectory variant K-TrajGRU (F.2, Eq 16-22)."""

from torch import Tensor, nn

from trivd.config import WarpPadding
from trivd.models.layers import bias_of
from trivd.models.recurrent.base import Activation, Gates, RecurrentUnit, Step
from trivd.models.warping import FactorizedKernels
from trivd.ops.gates import mix
from trivd.ops.unroll import Recursion


class ConvGRU(RecurrentUnit):
    """Convolutional gated recurrent unit, Eq 1-5, with ReLU as in DVD-GAN (F.1)."""

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int,
        *,
        kernel_size: int = 3,
        activation: Activation = "relu",
        gate_bias: float = 0.0,
    ) -> None:
        super().__init__(input_channels, hidden_channels)
        self.activation = activation
        self.gates = Gates(hidden_channels, input_channels, {"r": hidden_channels, "u": hidden_channels}, kernel_size)
        nn.init.constant_(bias_of(self.gates.convolutions["u"]), gate_bias)
        self.candidate = Gates(hidden_channels, input_channels, {"c": hidden_channels}, kernel_size)

    def bind(self, x: Tensor, initial: Tensor, recursion: Recursion, keep_weights: bool) -> Step:
        gates = self.gates.bind(x, recursion, {"r": "sigmoid", "u": "sigmoid"})
        candidate = self.candidate.bind(x, recursion, {"c": self.activation})

        def step(t: int, h: Tensor) -> tuple[Tensor, None]:
            gate = gates(t, h)  # Eq 1, 4
            content = candidate(t, gate["r"] * h)["c"]  # Eq 2, 3
            return mix(content, h, gate["u"]), None  # Eq 5

        return step


class KTrajGRU(RecurrentUnit):
    """A ConvGRU whose gates read warped copies of the past state, Eq 16-22, with tanh as in F.2.

    With `links` L > 1, as in TrajGRU (Shi et al. 2017), the gates read L warped copies side by side. Its other
    arguments are those of TSRU.
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int,
        *,
        kernel_size: int = 3,
        warp_size: int = 3,
        warp_kernels: int | None = None,
        warp_hidden: tuple[float, float] = (0.5, 0.5),
        warp_padding: WarpPadding = "zeros",
        links: int = 1,
        activation: Activation = "tanh",
        warp_start_weight: float | None = None,
        gate_bias: float = 0.0,
    ) -> None:
        super().__init__(input_channels, hidden_channels)
        self.activation = activation
        self.replicate = warp_padding == "replicate"
        channels = hidden_channels + input_channels
        self.kernels = FactorizedKernels(channels, warp_size, warp_hidden, links, warp_kernels)
        self.first = Gates(hidden_channels, input_channels, self.kernels.reads, kernel_size)
        if warp_start_weight is not None:
            self.kernels.start_near_identity(warp_start_weight, self.first.convolutions)
        warped = links * hidden_channels
        self.gates = Gates(warped, input_channels, {"r": warped, "u": hidden_channels}, kernel_size)
        nn.init.constant_(bias_of(self.gates.convolutions["u"]), gate_bias)
        self.candidate = Gates(warped, input_channels, {"c": hidden_channels}, kernel_size)

    def bind(self, x: Tensor, initial: Tensor, recursion: Recursion, keep_weights: bool) -> Step:
        first, kernels = self.first.bind(x, recursion, {}), self.kernels.bind(recursion)
        gates = self.gates.bind(x, recursion, {"r": "sigmoid", "u": "sigmoid"})
        candidate = self.candidate.bind(x, recursion, {"c": self.activation})

        def step(t: int, h: Tensor) -> tuple[Tensor, Tensor | None]:
            warped, weights = kernels(first(t, h)).warp(h, self.replicate, keep_weights)  # Eq 16, 17
            gate = gates(t, warped)  # Eq 18, 21
            content = candidate(t, gate["r"] * warped)["c"]  # Eq 19, 20
            return mix(content, h, gate["u"]), weights  # Eq 22

        return step
