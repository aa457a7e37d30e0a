"""Every recurrent unit: at each step one line per equation. [h; x] is the concatenation of two tensors' channels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn, sigmoid
from torch.nn import functional as F
from torch.nn.utils import parametrize

from reference.layers import conv, linear
from reference.warping import FactorizedKernels, PixelwiseKernels, warp
from trivd.config import ModelConfig


def join(*tensors: Tensor) -> Tensor:
    """[a; b; ...], joined along channels."""
    return torch.cat(tensors, dim=1)


class Unit(nn.Module, ABC):
    """A recurrent unit: x (T, B, inputs, H, W), first state (B, channels, H, W) -> states (T, B, channels, H, W)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        tanh = config.activation == "tanh" or (config.activation == "paper" and config.unit == "k_traj_gru")
        self.rho = torch.tanh if tanh else F.relu  # F.1, F.2
        self.padding = config.warp_padding

    def forward(self, x: Tensor, initial: Tensor) -> Tensor:
        h, states = initial, []
        with parametrize.cached():  # weights are normalised once for all steps
            for x_t in x:
                h = self.step(h, x_t)
                states.append(h)
        return torch.stack(states)

    @abstractmethod
    def step(self, h: Tensor, x: Tensor) -> Tensor:
        """h_t from h_{t-1} and x_t."""


class ConvGRU(Unit):
    """The convolutional gated recurrent unit (2.3)."""

    def __init__(self, config: ModelConfig, inputs: int, channels: int) -> None:
        super().__init__(config)
        self.w_r, self.w_c, self.w_u = (conv(channels + inputs, channels, config.kernel_size) for _ in range(3))

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        hx = join(h, x)
        r = sigmoid(self.w_r(hx))  # Eq 1
        reset = r * h  # Eq 2
        c = self.rho(self.w_c(join(reset, x)))  # Eq 3
        u = sigmoid(self.w_u(hx))  # Eq 4
        return u * h + (1 - u) * c  # Eq 5


class KTrajGRU(Unit):
    """A ConvGRU whose gates read warped states, L of them side by side (F.2)."""

    def __init__(self, config: ModelConfig, inputs: int, channels: int, warp_size: int) -> None:
        super().__init__(config)
        size, warped = config.kernel_size, config.links * channels
        self.f = FactorizedKernels(config, channels + inputs, warp_size)
        self.w_r = conv(warped + inputs, warped, size)
        self.w_c, self.w_u = (conv(warped + inputs, channels, size) for _ in range(2))

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        theta = self.f(join(h, x))  # Eq 16
        warped = join(*(warp(h, weights, self.padding) for weights in theta.unbind(1)))  # Eq 17
        r = sigmoid(self.w_r(join(warped, x)))  # Eq 18
        reset = r * warped  # Eq 19
        c = self.rho(self.w_c(join(reset, x)))  # Eq 20
        u = sigmoid(self.w_u(join(warped, x)))  # Eq 21
        return u * h + (1 - u) * c  # Eq 22


class TSRU(Unit):
    """The transformation-based spatial recurrent unit and its pixelwise form (3.2.2).

    In TSRU_c, the content c reads [warped; x] and the gate u reads [h; x]. In TSRU_p, c reads [h; x] too. In TSRU_s, u
    reads [warped; c]. With a read gate (suggested at the end of F.2), c reads r times its state.
    """

    def __init__(self, config: ModelConfig, inputs: int, channels: int, warp_size: int) -> None:
        super().__init__(config)
        self.flow, size = config.unit[-1], config.kernel_size
        kernels = PixelwiseKernels if config.unit.startswith("p") else FactorizedKernels
        self.f = kernels(config, channels + inputs, warp_size)
        self.w_r = conv(channels + inputs, channels, size) if config.read_gate else None
        self.w_c = conv(channels + inputs, channels, size)
        self.w_u = conv(2 * channels if self.flow == "s" else channels + inputs, channels, size)

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        hx = join(h, x)
        theta = self.f(hx)  # Eq 6
        warped = warp(h, theta[:, 0], self.padding)  # Eq 7
        read = h if self.flow == "p" else warped
        if self.w_r is not None:
            read = sigmoid(self.w_r(hx)) * read
        c = self.rho(self.w_c(join(read, x)))  # Eq 8, or TSRU_p's
        u = sigmoid(self.w_u(join(warped, c) if self.flow == "s" else hx))  # Eq 9, or TSRU_s's
        return u * warped + (1 - u) * c  # Eq 10


class LSTM(Unit):
    """The base of both LSTMs. The state [h; m] is a hidden state and a memory cell, half of the channels each (F.3)."""

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        h, m = h.chunk(2, dim=1)
        i, f, o, g = self.gates(h, x)
        m = sigmoid(f) * m + sigmoid(i) * self.rho(g)  # Hochreiter and Schmidhuber 1997
        return join(sigmoid(o) * self.rho(m), m)

    @abstractmethod
    def gates(self, h: Tensor, x: Tensor) -> Sequence[Tensor]:
        """The gates i, f, o and the content g before their activations, (B, channels / 2, H, W) each."""


class ConvLSTM(LSTM):
    """The convolutional LSTM (F.3)."""

    def __init__(self, config: ModelConfig, inputs: int, channels: int) -> None:
        super().__init__(config)
        half = channels // 2
        self.w_input, self.w_forget, self.w_output, self.w_content = (
            conv(half + inputs, half, config.kernel_size) for _ in range(4)
        )

    def gates(self, h: Tensor, x: Tensor) -> Sequence[Tensor]:
        hx = join(h, x)
        return [w(hx) for w in (self.w_input, self.w_forget, self.w_output, self.w_content)]


class DynamicConvLSTM(LSTM):
    """A ConvLSTM whose kernels are predicted anew for each sample and step (F.4; Xu et al. 2018).

    One small network maps each difference F_t[i] - F_{t-1}[j] of the first c = channels / 2 features to the kernels
    from channel i to channel j: for each gate, one that reads h and q that read x, which has q c channels.
    """

    def __init__(self, config: ModelConfig, inputs: int, channels: int) -> None:
        super().__init__(config)
        self.c, self.size = channels // 2, config.kernel_size
        self.groups = 1 + inputs // self.c  # 1 + q
        self.features = conv(1, 8)
        self.output = linear(8 * 4 * 4, 4 * self.groups * self.size**2)
        self.bias = nn.Parameter(torch.zeros(4 * self.c))

    def forward(self, x: Tensor, initial: Tensor) -> Tensor:
        before = torch.cat([initial[None, :, : self.c], x[:-1, :, : self.c]])  # F_{t-1}, at first the encoding
        return super().forward(torch.cat([x, before], dim=2), initial)

    def gates(self, h: Tensor, x: Tensor) -> Sequence[Tensor]:
        x, before = x[:, : -self.c], x[:, -self.c :]
        differences = x[:, None, : self.c] - before[:, :, None]  # (B, j, i, H, W)
        maps = F.relu(self.features(differences.flatten(0, 2).unsqueeze(1)))
        kernels = self.output(F.adaptive_max_pool2d(maps, 4).flatten(1))
        kernels = kernels.view(len(x), self.c, self.c, 4, self.groups, self.size, self.size)
        kernels = kernels.softmax(dim=2)  # over the input channels i
        kernels = kernels.permute(0, 3, 1, 4, 2, 5, 6)  # (B, gate, j, group, i, k, k)
        kernels = kernels.flatten(3, 4).flatten(1, 2)  # (B, 4 c, (1 + q) c, k, k)
        samples = zip(join(h, x), kernels, strict=True)
        read = [F.conv2d(hx[None], kernel, self.bias, padding=self.size // 2) for hx, kernel in samples]
        return torch.cat(read).chunk(4, dim=1)


UNWARPED: dict[str, type[ConvGRU | ConvLSTM | DynamicConvLSTM]] = {
    "conv_gru": ConvGRU,
    "conv_lstm": ConvLSTM,
    "dynamic_conv_lstm": DynamicConvLSTM,
}


def build_unit(config: ModelConfig, inputs: int, channels: int, resolution: int) -> Unit:
    """The unit `config.unit` of a resolution, with so many channels of x and of the state."""
    if config.unit in UNWARPED:
        return UNWARPED[config.unit](config, inputs, channels)
    return (KTrajGRU if config.unit == "k_traj_gru" else TSRU)(
        config, inputs, channels, config.warp_size_at(resolution)
    )
