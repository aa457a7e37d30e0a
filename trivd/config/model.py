"""Settings of the networks: the generator with its encoder, and the discriminators."""

import math
from dataclasses import dataclass
from typing import Literal

from trivd.config.checks import at_least, at_most, check_literals, one_of, require

Unit = Literal[
    "conv_gru",
    "conv_lstm",
    "k_traj_gru",
    "tsru_c",
    "tsru_p",
    "tsru_s",
    "ptsru_c",
    "ptsru_p",
    "ptsru_s",
    "dynamic_conv_lstm",
]
Decomposition = Literal[
    "clip",
    "downsampled",
    "cropped",
    "cropped_downsampled",
    "mocogan_k1",
    "mocogan_k8",
    "dvd_gan_fp",
    "faster",
    "stronger",
]
WarpPadding = Literal["zeros", "replicate"]
VIDEO_ONLY: tuple[Decomposition, ...] = (
    "clip",
    "downsampled",
    "cropped",
    "cropped_downsampled",
)  # no frame discriminator
RESOLUTIONS = (32, 64, 128, 256)
SMALLEST_DISCRIMINATOR_INPUT = 16  # pixels: four blocks halve it (A)
FIRST_RESOLUTION = 8  # of G's first features (appendix A)
MOST_FRAMES = 1_024  # given or predicted: a model's file may name any number, and costs little for each


@dataclass(frozen=True)
class ModelConfig:
    """The generator G with its encoder E: everything that is needed to rebuild a saved model (appendix A, F)."""

    resolution: int = 64  # height and width of a frame, in pixels: 32, 64, 128 or 256
    image_channels: int = 3  # 3 (RGB) or 1 (grey)
    conditioning_frames: int = 5  # C frames that are given
    predicted_frames: int = 11  # T frames that are drawn
    classes: int = 0  # number of classes to condition on; 0 stands for one constant zero class
    generator_channels: int = 48  # ch of G
    generator_widths: tuple[float, ...] = (8, 8, 4, 2, 1, 0.5)  # times ch: channels of G at 8, 16, 32, ... 256 pixels
    discriminator_channels: int = 48  # ch_D of every discriminator and of E: ch_D x (1, 2, 4, 8, 16)
    latent_dim: int = 128  # of z ~ N(0, I)
    embedding_dim: int = 128  # of the class
    unit: Unit = "tsru_p"  # recurrent unit
    recurrent_resolutions: tuple[int, ...] = (8, 16, 32)  # where a recurrent unit stands; the output's may be added
    kernel_size: int = 3  # k of the unit's convolutions
    warp_size: tuple[int, ...] = (3,)  # k of the warping kernels: one for all recurrent_resolutions, or one for each
    warp_kernels: int | None = None  # N kernels that a factorized warp mixes; None: k^2 of them, as in the paper
    warp_hidden: tuple[float, float] = (0.5, 0.5)  # sizes of f's hidden layers, times the channels of [h; x] (F.1)
    warp_padding: WarpPadding = "zeros"  # what a warp reads outside of the features: zeros, or their nearest border
    warp_start_weight: float | None = None  # an untrained warp's weight on the centre; None: 1/k^2, a mean of all taps
    gate_bias: float = 0.0  # initial bias of the gate that keeps the past: u, or an LSTM's f (Jozefowicz et al. 2015)
    links: int = 1  # L warped copies of the hidden state, k_traj_gru only
    read_gate: bool = False  # gate what the new content reads of the past, TSRUs only (F.2, future work)
    activation: Literal["paper", "relu", "tanh"] = "paper"  # rho; "paper": tanh for k_traj_gru (F.2), else ReLU (F.1)

    def __post_init__(self) -> None:
        check_literals("model", self)
        one_of(RESOLUTIONS, "model", self, "resolution")
        one_of((1, 3), "model", self, "image_channels")
        at_least(1, "model", self, "conditioning_frames", "predicted_frames", "links")
        at_most(MOST_FRAMES, "model", self, "conditioning_frames", "predicted_frames")
        at_least(1, "model", self, "generator_channels", "discriminator_channels", "latent_dim", "embedding_dim")
        at_least(0, "model", self, "classes")
        for name, sizes in (("kernel_size", (self.kernel_size,)), ("warp_size", self.warp_size)):
            for size in sizes:
                require(size >= 1 and size % 2 == 1, f"model.{name} is {size}; it must be an odd number of pixels.")
        allowed = self.generator_resolutions
        require(
            len(self.recurrent_resolutions) > 0 and set(self.recurrent_resolutions) <= set(allowed),
            f"model.recurrent_resolutions is {self.recurrent_resolutions}; choose one or more of {allowed}.",
        )
        require(
            len(set(self.recurrent_resolutions)) == len(self.recurrent_resolutions),
            f"model.recurrent_resolutions names a resolution twice: {self.recurrent_resolutions}.",
        )
        self._check_warps()
        require(math.isfinite(self.gate_bias), f"model.gate_bias is {self.gate_bias}; it must be a finite number.")
        require(
            len(self.generator_widths) >= len(allowed),
            f"model.generator_widths has {len(self.generator_widths)} values; name one for each of {allowed} pixels.",
        )
        for r in allowed:
            width = self.generator_channels * self._width_at(r)
            require(
                math.isfinite(width) and round(width) >= 1 and math.isclose(width, round(width)),
                f"model.generator_channels {self.generator_channels} times model.generator_widths gives {width:.9g} "
                f"channels at {r} pixels; change one of them to make it a positive whole number.",
            )
        for r in self.recurrent_resolutions:
            width = self.channels_at(r)
            require(
                width % 2 == 0 or not self.unit.endswith("lstm"),
                f"model.unit {self.unit} needs an even number of channels, but at {r} pixels model.generator_channels "
                f"{self.generator_channels} gives {width}; change it, model.generator_widths or "
                "model.recurrent_resolutions.",
            )
        require(
            self.links == 1 or self.unit == "k_traj_gru",
            f"model.links is a setting of k_traj_gru; {self.unit} takes 1.",
        )
        require(
            not self.read_gate or "tsru" in self.unit,
            f"model.read_gate is a setting of the TSRUs; {self.unit} has none.",
        )

    def _check_warps(self) -> None:
        require(
            len(self.warp_hidden) == 2 and all(0 < share < math.inf for share in self.warp_hidden),
            f"model.warp_hidden is {self.warp_hidden}; give two positive numbers.",
        )
        require(
            self.warp_kernels is None or self.warp_kernels >= 1,
            f"model.warp_kernels is {self.warp_kernels}; it must be at least 1.",
        )
        require(
            self.warp_kernels is None or self.unit == "k_traj_gru" or self.unit.startswith("tsru"),
            f"model.warp_kernels is a setting of tsru_c, tsru_p, tsru_s and k_traj_gru; {self.unit} mixes no kernels.",
        )
        require(
            len(self.warp_size) in (1, len(self.recurrent_resolutions)),
            f"model.warp_size has {len(self.warp_size)} values; give one, or one for each of "
            f"model.recurrent_resolutions {self.recurrent_resolutions}.",
        )
        require(
            self.warp_start_weight is None or min(self.warp_size) > 1,
            "model.warp_start_weight needs more than the one tap of model.warp_size 1; leave it out, or choose 3.",
        )
        least = 1 / min(self.warp_size) ** 2
        require(
            self.warp_start_weight is None or least < self.warp_start_weight < 1,
            f"model.warp_start_weight is {self.warp_start_weight}; with model.warp_size {self.warp_size} it must lie "
            f"between {least:.3g}, the mean of all taps, and 1.",
        )

    def warp_size_at(self, resolution: int) -> int:
        """k of the warps of the recurrent unit there."""
        if len(self.warp_size) == 1:
            return self.warp_size[0]
        return self.warp_size[self.recurrent_resolutions.index(resolution)]

    def channels_at(self, resolution: int) -> int:
        """Channels of G's features, and so of the recurrent unit there."""
        return round(self.generator_channels * self._width_at(resolution))

    def _width_at(self, resolution: int) -> float:
        return self.generator_widths[self.generator_resolutions.index(resolution)]

    @property
    def frames(self) -> int:
        """Frames of a whole clip, C + T."""
        return self.conditioning_frames + self.predicted_frames

    @property
    def generator_resolutions(self) -> tuple[int, ...]:
        """Resolutions of G's features, first to output: 8, 16, ..., resolution."""
        sizes = [FIRST_RESOLUTION]
        while sizes[-1] < self.resolution:
            sizes.append(2 * sizes[-1])
        return tuple(sizes)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminators: what they see, and how they score it (3.1, E.1)."""

    decomposition: Decomposition = "stronger"  # rows of Table 1
    head: Literal["mixed_projection", "projection"] = "mixed_projection"  # Eq 15, or Miyato and Koyama's
    frames: int = 8  # K frames drawn for a frame discriminator; mocogan_k1 takes 1 whatever this says
    downsampling: int = 2  # s of the downsampled and cropped inputs
    temporal_pooling: bool = True  # 3D blocks halve time with space, which Table 1's times require

    def __post_init__(self) -> None:
        check_literals("discriminator", self)
        at_least(1, "discriminator", self, "frames")
        one_of((1, 2, 4), "discriminator", self, "downsampling")
