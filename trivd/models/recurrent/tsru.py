"""The Transformation-based Spatial Recurrent Unit, its three information flows and two warpings (3.2.2)."""

from typing import Literal

import torch
from torch import Tensor, nn

from trivd.config import WarpPadding
from trivd.models.layers import SNConv, bias_of, share_layer
from trivd.models.recurrent.base import Activation, Gates, RecurrentUnit, Step
from trivd.models.warping import FactorizedKernels, PixelwiseKernels
from trivd.ops.gates import mix
from trivd.ops.unroll import Recursion

Flow = Literal["c", "p", "s"]


class TSRU(RecurrentUnit):
    """Warp the past state, generate new content, and mix the two, Eq 6-10.

    Args:
        flow: "c" follows ConvGRU: the content c reads the warped state, the gate u the past one. "p" computes the warp,
            c and u in parallel from the past state. "s" computes them in sequence: u reads the warped state and c.
        warping: "factorized" (TSRU) or "pixelwise" (PTSRU).
        warp_size: k of the warping kernels.
        warp_kernels: N, how many of them a factorized warp mixes; None: k^2 of them.
        read_gate: a gate r = sigma(W_r * [h; x]) multiplies the state that c reads, as ConvGRU's reset gate does
            (named as future work at the end of F.2).
        warp_hidden: sizes of f's hidden layers, times the channels of [h; x] (F.1).
        warp_padding: what lies outside of the warped state: zeros, or the nearest border.
        warp_start_weight: of an untrained warp on the centre; None: it is the mean of all taps.
        gate_bias: initial bias of u.
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int,
        *,
        flow: Flow = "p",
        warping: Literal["factorized", "pixelwise"] = "factorized",
        kernel_size: int = 3,
        warp_size: int = 3,
        warp_kernels: int | None = None,
        warp_hidden: tuple[float, float] = (0.5, 0.5),
        warp_padding: WarpPadding = "zeros",
        read_gate: bool = False,
        activation: Activation = "relu",
        warp_start_weight: float | None = None,
        gate_bias: float = 0.0,
    ) -> None:
        super().__init__(input_channels, hidden_channels)
        self.flow = flow
        self.replicate = warp_padding == "replicate"
        self.read_gate = read_gate
        self.activation = activation
        channels = hidden_channels + input_channels
        self.kernels: FactorizedKernels | PixelwiseKernels = (
            FactorizedKernels(channels, warp_size, warp_hidden, links=1, count=warp_kernels)
            if warping == "factorized"
            else PixelwiseKernels(channels, warp_size, warp_hidden)
        )
        first = dict(self.kernels.reads)  # everything that reads [h_{t-1}; x_t]
        if read_gate:
            first["r"] = hidden_channels
        if flow != "s":
            first["u"] = hidden_channels
        self.candidate: Gates | None = None
        if flow == "p" and not read_gate:
            first["c"] = hidden_channels
        else:
            self.candidate = Gates(hidden_channels, input_channels, {"c": hidden_channels}, kernel_size)
        # In the sequential flow u reads [warped; c] in place of [h; x].
        self.update = SNConv(2 * hidden_channels, hidden_channels, kernel_size) if flow == "s" else None
        self.first = Gates(hidden_channels, input_channels, first, kernel_size)
        nn.init.constant_(bias_of(self.update or self.first.convolutions["u"]), gate_bias)
        if warp_start_weight is not None:
            self.kernels.start_near_identity(warp_start_weight, self.first.convolutions)

    def bind(self, x: Tensor, initial: Tensor, recursion: Recursion, keep_weights: bool) -> Step:
        first = self.first.bind(x, recursion, {"r": "sigmoid", "u": "sigmoid", "c": self.activation})
        kernels = self.kernels.bind(recursion)
        candidate = None if self.candidate is None else self.candidate.bind(x, recursion, {"c": self.activation})
        update = None if self.update is None else share_layer(self.update, "sigmoid", recursion)

        def step(t: int, h: Tensor) -> tuple[Tensor, Tensor | None]:
            read = first(t, h)
            warped, weights = kernels(read).warp(h, self.replicate, keep_weights)  # Eq 6, 7
            past = h if self.flow == "p" else warped
            if self.read_gate:
                past = read["r"] * past
            content = candidate(t, past)["c"] if candidate else read["c"]  # Eq 8
            gate = update(torch.cat([warped, content], dim=1)) if update else read["u"]  # Eq 9
            return mix(content, warped, gate), weights  # Eq 10

        return step
