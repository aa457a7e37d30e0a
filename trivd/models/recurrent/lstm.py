"""ConvLSTM (F.3) and Dynamic ConvLSTM (F.4)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import SNConv, SNLinear, bias_of
from trivd.models.recurrent.base import Activation, Gates, RecurrentUnit, Step
from trivd.ops.differences import pooled_differences, pooling_windows
from trivd.ops.gates import PartActivation, activate
from trivd.ops.unroll import Recursion

GATES = ("input", "forget", "output", "content")


def lstm_activations(activation: Activation) -> dict[str, PartActivation]:
    """Activations of the gates, by name."""
    return {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "content": activation}


def lstm_update(gate: Mapping[str, Tensor], memory: Tensor, activation: Activation) -> Tensor:
    """[h; m] after a step, from the activated gates (Shi et al. 2015, with rho in place of tanh)."""
    memory = gate["forget"] * memory + gate["input"] * gate["content"]
    hidden = gate["output"] * activate(memory, activation)
    return torch.cat([hidden, memory], dim=1)


class ConvLSTM(RecurrentUnit):
    """Convolutional LSTM whose state is [hidden state; memory cell], half of the channels each (F.3)."""

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
        half = hidden_channels // 2
        self.gates = Gates(half, input_channels, dict.fromkeys(GATES, half), kernel_size)
        nn.init.constant_(bias_of(self.gates.convolutions["forget"]), gate_bias)

    def bind(self, x: Tensor, initial: Tensor, recursion: Recursion, keep_weights: bool) -> Step:
        gates = self.gates.bind(x, recursion, lstm_activations(self.activation))

        def step(t: int, state: Tensor) -> tuple[Tensor, None]:
            hidden, memory = state.chunk(2, dim=1)
            return lstm_update(gates(t, hidden), memory, self.activation), None

        return step


class KernelCNN(nn.Module):
    """Predicts full convolution kernels from differences of channels (F.4; Xu et al. 2018, section 3.3).

    One small network, shared by all pairs of channels, maps the map F_t[i] - F_{t-1}[j] to the k x k kernels from input
    channel i to output channel j: convolution -> ReLU -> adaptive max-pooling -> linear.

    Args:
        kernels: how many k x k kernels each pair gives.
        kernel_size: k.
    """

    width = 8
    pooled = 4

    def __init__(self, kernels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.kernel_size = kernel_size
        self.features = SNConv(1, self.width)
        self.output = SNLinear(self.width * self.pooled**2, kernels * kernel_size**2)

    def bind(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A function (B, c, H, W) twice -> (B, kernels, out c, in c, k, k), a softmax over the input channels."""
        convolve, output, bias = self.features.bind(), self.output.bind(), self.features.bias
        assert bias is not None
        size = (self.kernels, self.kernel_size, self.kernel_size)

        def features(maps: Tensor) -> Tensor:
            return convolve(maps.flatten(0, 1).unsqueeze(1)).unflatten(0, maps.shape[:2])  # (B, c, width, H, W)

        def predict(current: Tensor, previous: Tensor) -> Tensor:
            # The convolution is linear: c maps each are convolved instead of c^2 differences.
            now, before = features(current), features(previous)
            now = now + bias.to(now.dtype).view(-1, 1, 1)  # the difference loses the one that both have
            pooled = pooled_differences(pooling_windows(now, self.pooled), pooling_windows(before, self.pooled))
            kernels = output(pooled).unflatten(-1, size)  # (B, out c, in c, kernels, k, k)
            return kernels.permute(0, 3, 1, 2, 4, 5).softmax(dim=3)

        return predict


class DynamicConvLSTM(RecurrentUnit):
    """ConvLSTM whose eight kernels are predicted anew at every step (F.4), at a cost quadratic in the channels.

    Input channels must be a multiple q of the hidden state's c = hidden_channels / 2; each difference of channels then
    gives q + 1 kernels per gate. The features before the first step are the encoding's first c channels.
    """

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
        self.kernel_size = kernel_size
        self.cells = hidden_channels // 2
        if input_channels % self.cells:
            raise ValueError(f"input_channels {input_channels} is not a multiple of hidden_channels / 2 = {self.cells}")
        self.multiple = input_channels // self.cells
        self.kernel_cnn = KernelCNN(len(GATES) * (self.multiple + 1), kernel_size)
        biases = [gate_bias if name == "forget" else 0.0 for name in GATES]
        self.bias = nn.Parameter(torch.tensor(biases).repeat_interleave(self.cells))

    def bind(self, x: Tensor, initial: Tensor, recursion: Recursion, keep_weights: bool) -> Step:
        dtype = recursion.dtype
        padding = self.kernel_size // 2
        predict = self.kernel_cnn.bind()
        activations = lstm_activations(self.activation)

        def step(t: int, state: Tensor) -> tuple[Tensor, None]:
            hidden, memory = state.chunk(2, dim=1)
            batch, _, height, width = hidden.shape
            previous = (x[t - 1] if t > 0 else initial)[:, : self.cells].to(dtype)
            kernels = predict(x[t, :, : self.cells].to(dtype), previous)
            # (B, gate, q + 1, out, in, k, k) -> each sample is a group whose inputs are [h; x]
            kernels = kernels.unflatten(1, (len(GATES), -1)).transpose(2, 3).flatten(3, 4).flatten(0, 2)
            both = torch.cat([hidden, x[t].to(dtype)], dim=1).reshape(1, -1, height, width)
            read = F.conv2d(both, kernels.to(dtype), padding=padding, groups=batch).view(batch, -1, height, width)
            gates = (read + self.bias.to(dtype).view(-1, 1, 1)).chunk(len(GATES), dim=1)
            activated = {name: activate(gate, activations[name]) for name, gate in zip(GATES, gates, strict=True)}
            return lstm_update(activated, memory, self.activation), None

        return step
