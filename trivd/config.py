"""Every setting of the system and its default: the only home of defaults.

The defaults are the paper's (ch 48, Table 1 and appendix E.2); `trivd.presets` holds what each experiment changes.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import dacite
import tyro

from trivd.runtime.errors import TrivdError

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
WarpStart = Literal["mean", "copy"]
OnNan = Annotated[Literal["stop", "rollback"], tyro.conf.arg(aliases=["--on-nan"])]
Layout = Literal["auto", "folder", "kinetics600", "ucf101", "bair"]
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
MOST_DIGITS = 100


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TrivdError(message)


def _at_least(least: int, section: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(value >= least, f"{section}.{name} is {value}; it must be at least {least}.")


def _at_most(most: int, section: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(value <= most, f"{section}.{name} is {value}; it must be at most {most}.")


def _one_of(choices: Collection[object], section: str, settings: object, name: str) -> None:
    value, (*others, last) = getattr(settings, name), map(str, choices)
    _require(value in choices, f"{section}.{name} is {value}; choose {', '.join(others)} or {last}.")


def _check_literals(section: str, settings: object) -> None:
    """Check that each setting of a Literal type is one of its values, however the configuration was made."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            _one_of(get_args(kind), section, settings, name)


@dataclass(frozen=True)
class ModelConfig:
    """The generator G with its encoder E: everything that is needed to rebuild a saved model (appendix A, F)."""

    resolution: int = 64  # height and width of a frame, in pixels: 32, 64, 128 or 256
    image_channels: int = 3  # 3 (RGB) or 1 (grey)
    conditioning_frames: int = 5  # C frames that are given
    predicted_frames: int = 11  # T frames that are drawn
    classes: int = 0  # number of classes to condition on; 0 stands for one constant zero class
    generator_channels: int = 48  # ch of G: 8ch features at 8 and 16 pixels, 4ch at 32, 2ch at 64, ...
    discriminator_channels: int = 48  # ch_D of every discriminator and of E: ch_D x (1, 2, 4, 8, 16)
    latent_dim: int = 128  # of z ~ N(0, I)
    embedding_dim: int = 128  # of the class
    unit: Unit = "tsru_p"  # recurrent unit
    recurrent_resolutions: tuple[int, ...] = (8, 16, 32)  # where a recurrent unit stands; the output's may be added
    kernel_size: int = 3  # k of the unit's convolutions
    warp_size: int = 3  # k of the warping kernels; the factorized warp mixes N = k^2 of them
    warp_start: WarpStart = "mean"  # untrained warps: "mean" of the k x k taps, or nearly a "copy" (not in the paper)
    links: int = 1  # L warped copies of the hidden state, k_traj_gru only
    read_gate: bool = False  # gate what the new content reads of the past, TSRUs only (F.2, future work)
    activation: Literal["paper", "relu", "tanh"] = "paper"  # rho; "paper": tanh for k_traj_gru (F.2), else ReLU (F.1)

    def __post_init__(self) -> None:
        _check_literals("model", self)
        _one_of(RESOLUTIONS, "model", self, "resolution")
        _one_of((1, 3), "model", self, "image_channels")
        _at_least(1, "model", self, "conditioning_frames", "predicted_frames", "links")
        _at_most(MOST_FRAMES, "model", self, "conditioning_frames", "predicted_frames")
        _at_least(1, "model", self, "generator_channels", "discriminator_channels", "latent_dim", "embedding_dim")
        _at_least(0, "model", self, "classes")
        for name in ("kernel_size", "warp_size"):
            size = getattr(self, name)
            _require(size >= 1 and size % 2 == 1, f"model.{name} is {size}; it must be an odd number of pixels.")
        allowed = self.generator_resolutions
        _require(
            len(self.recurrent_resolutions) > 0 and set(self.recurrent_resolutions) <= set(allowed),
            f"model.recurrent_resolutions is {self.recurrent_resolutions}; choose one or more of {allowed}.",
        )
        _require(
            len(set(self.recurrent_resolutions)) == len(self.recurrent_resolutions),
            f"model.recurrent_resolutions names a resolution twice: {self.recurrent_resolutions}.",
        )
        _require(
            self.resolution < 256 or self.generator_channels % 2 == 0,
            "model.generator_channels must be even at 256 pixels, where features have ch/2 channels.",
        )
        for r in self.recurrent_resolutions:
            width = self.channels_at(r)
            _require(
                width % 2 == 0 or not (self.unit.endswith("lstm") or self.unit.startswith("p")),
                f"model.unit {self.unit} needs an even number of channels, but at {r} pixels model.generator_channels "
                f"{self.generator_channels} gives {width}; change it or model.recurrent_resolutions.",
            )
        _require(
            self.links == 1 or self.unit == "k_traj_gru",
            f"model.links is a setting of k_traj_gru; {self.unit} takes 1.",
        )
        _require(
            not self.read_gate or "tsru" in self.unit,
            f"model.read_gate is a setting of the TSRUs; {self.unit} has none.",
        )

    def channels_at(self, resolution: int) -> int:
        """Channels of G's features, and so of the recurrent unit there: 8ch, 8ch, 4ch, 2ch, ch, ch/2 from 8 to 256."""
        return self.generator_channels * 8 // max(1, resolution // 16)

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

    def __post_init__(self) -> None:
        _check_literals("discriminator", self)
        _at_least(1, "discriminator", self, "frames")
        _one_of((1, 2, 4), "discriminator", self, "downsampling")


@dataclass(frozen=True)
class VideoLimits:
    """Limits on what a video may ask of the machine: files can claim anything, and small ones can unpack to much."""

    max_frame_pixels: int = 8_192 * 4_320  # 8K cinema
    max_aspect_ratio: int = 32  # long side / short side: resized to a given short side, the long one grows with it
    max_video_frames: int = 1_000_000  # nine hours at 30 frames a second
    max_video_bytes: int = 1 << 30  # of one that is held in memory whole: an .npz array, a record of BAIR, a prediction

    def __post_init__(self) -> None:
        names = ("max_frame_pixels", "max_aspect_ratio", "max_video_frames", "max_video_bytes")
        _at_least(1, "limits", self, *names)


DEFAULT_LIMITS = VideoLimits()


@dataclass(frozen=True)
class DataConfig:
    """The data, and the clips that are cut from it (4.1, E.2)."""

    stride: int = 1  # distance between neighbouring frames of a clip, in frames of the video
    layout: Layout = "auto"  # how the data's folder is arranged; auto recognises each
    validation_share: float = 0.1  # where no video is held out: by a hash of each path; of one video, its end
    balanced_split: bool = False  # train on the first 70% of train alone, hold out its rest with the test videos (C.1)
    ucf101_fold: int = 1  # 1, 2 or 3: which trainlist0N.txt and testlist0N.txt
    bair_camera: Literal["image_aux1", "image_main"] = "image_aux1"  # the field reports image_aux1
    evaluation_step: int | None = None  # frames between the starts of evaluation clips; None: clips do not overlap
    workers: int = 1  # processes that read clips; 0 reads in the training process
    unreadable_share: float = 0.05  # of the last 1,000 training clips; others are taken for them, with more it stops
    digits: int = 2  # moving-digits: how many move in a clip
    digits_clips: int = 100_000  # moving-digits: length of the training split
    limits: VideoLimits = DEFAULT_LIMITS  # beyond which a video is refused before it is decoded

    def __post_init__(self) -> None:
        _check_literals("data", self)
        _at_least(1, "data", self, "stride", "digits", "digits_clips")
        _at_most(MOST_DIGITS, "data", self, "digits")
        _at_least(0, "data", self, "workers")
        _one_of((1, 2, 3), "data", self, "ucf101_fold")
        _require(
            self.evaluation_step is None or self.evaluation_step >= 1,
            f"data.evaluation_step is {self.evaluation_step}; it must be at least 1, or none.",
        )
        _require(
            0.0 <= self.unreadable_share <= 1.0,
            f"data.unreadable_share is {self.unreadable_share}; it must lie between 0 and 1.",
        )
        _require(
            0.0 < self.validation_share < 1.0,
            f"data.validation_share is {self.validation_share}; it must lie between 0 and 1.",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe (4.1, E.1, E.2)."""

    steps: int = 1_000_000  # generator updates
    batch_size: int = 512  # clips per process and forward pass
    accumulation: int = 1  # forward passes per update; the global batch is batch_size x accumulation
    discriminator_updates: int = 2  # per generator update
    generator_lr: float = 1e-4
    discriminator_lr: float = 5e-4
    beta1: float = 0.0  # Adam
    beta2: float = 0.999
    epsilon: float = 1e-8
    orthogonality: float = 1e-4  # weight of the orthogonality penalty on G and E
    reconstruction: float = 0.0  # weight of L1(truth, mean of the samples); not in the paper, for small data
    reconstruction_samples: int = 1  # samples that the mean is taken over
    reconstruction_half_life: int = 0  # steps in which its weight halves, so that D takes over; 0: constant
    ema_decay: float = 0.9999
    ema_start: int = 20_000  # step whose weights begin the average
    seed: int = 0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the hardware gains from it
    device: str = "auto"  # auto: cuda where there is one, else cpu
    checkpoint_activations: bool = False  # recompute the blocks in backward: about half the memory, more work
    on_nan: OnNan = "stop"  # when a loss is not finite: stop, or go back to the last checkpoint and on with other clips
    patience: int = 600  # seconds that a process waits for the others before it ends
    log_every: int = 100  # steps, as all the following
    sample_every: int = 1_000  # a grid of samples
    evaluate_every: int = 5_000  # scores on fixed training clips, which choose the best model, and on validation ones
    checkpoint_every: int = 1_000

    def __post_init__(self) -> None:
        _check_literals("training", self)
        _at_least(1, "training", self, "steps", "batch_size", "accumulation", "discriminator_updates", "patience")
        _at_least(1, "training", self, "reconstruction_samples")
        _at_least(1, "training", self, "log_every", "sample_every", "evaluate_every", "checkpoint_every")
        _at_least(0, "training", self, "orthogonality", "reconstruction", "reconstruction_half_life")
        _at_least(0, "training", self, "ema_start", "seed")
        for name in ("generator_lr", "discriminator_lr", "epsilon"):
            _require(
                0 < getattr(self, name) < math.inf, f"training.{name} is {getattr(self, name)}; it must be positive."
            )
        for name in ("beta1", "beta2", "ema_decay"):
            _require(0 <= getattr(self, name) < 1, f"training.{name} is {getattr(self, name)}; it must be in [0, 1).")
        for name, without in (("reconstruction_samples", 1), ("reconstruction_half_life", 0)):
            _require(
                getattr(self, name) == without or self.reconstruction > 0,
                f"training.{name} has no effect while training.reconstruction is 0; set both or neither.",
            )

    def reconstruction_weight(self, step: int) -> float:
        """Weight of L1 at a step, counted from 0."""
        if not self.reconstruction_half_life:
            return self.reconstruction
        return self.reconstruction * 0.5 ** (step / self.reconstruction_half_life)

    @property
    def losses(self) -> str:
        """The losses that train G, in words for protocols and pages."""
        if not self.reconstruction:
            return "adversarial losses alone"
        halved = f" (halved every {self.reconstruction_half_life} steps)" if self.reconstruction_half_life else ""
        return f"adversarial losses and L1 x {self.reconstruction:g}{halved}"


@dataclass(frozen=True)
class EvaluationConfig:
    """The evaluation of a model and the drawing of its samples (4.1, C.1, D.1, E.2)."""

    clips: int = 2_048  # held-out clips with one future each: distances, inception score, sharpness, motion
    best_of_clips: int = 256  # held-out clips that get several: frame scores, best of l (Figure 5), diversity
    samples: int = 100  # futures of each of these
    runs: int = 1  # evaluations with seeds of their own, whose mean and standard deviation are reported
    batch_size: int = 32  # futures drawn at once
    truncation: float | None = None  # z's entries beyond it are drawn again; 0: z = 0
    seed: int = 0
    features: Literal["auto", "i3d", "moving-digits", "none"] = "auto"  # auto: by the data; I3D if it was imported
    i3d_weights: str | None = None  # file; none: what `trivd weights import` left
    count_conditioning: bool = True  # whether the given frames count in the Fréchet distance, as in published FVDs
    inception_splits: int = 1  # parts of the clips that the inception score is averaged over
    standing_batches: int = 100  # batches whose statistics make the standing statistics (E.2)
    standing_batch_size: int = 256

    def __post_init__(self) -> None:
        _check_literals("evaluation", self)
        _at_least(1, "evaluation", self, "clips", "best_of_clips", "samples", "runs", "batch_size", "inception_splits")
        _at_least(1, "evaluation", self, "standing_batches", "standing_batch_size")
        _at_least(0, "evaluation", self, "seed")
        _require(
            self.truncation is None or 0 <= self.truncation < math.inf,
            f"evaluation.truncation is {self.truncation}; use a positive threshold, 0 for z = 0, or none.",
        )


@dataclass(frozen=True)
class Config:
    """All settings of a run; saved with it as config.json."""

    model: ModelConfig = field(default_factory=ModelConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        _require(
            self.discriminator.frames <= self.model.predicted_frames
            or self.discriminator.decomposition in (*VIDEO_ONLY, "mocogan_k1"),
            f"discriminator.frames is {self.discriminator.frames}, but only {self.model.predicted_frames} frames are "
            "predicted; lower it or raise model.predicted_frames.",
        )
        smallest = self.model.resolution // self.discriminator.downsampling
        _require(
            smallest >= SMALLEST_DISCRIMINATOR_INPUT,
            f"discriminator.downsampling {self.discriminator.downsampling} leaves discriminators {smallest} of "
            f"{self.model.resolution} pixels; they need {SMALLEST_DISCRIMINATOR_INPUT}, so lower it.",
        )


def changes_from_defaults(config: Config) -> dict[str, dict[str, Any]]:
    """Settings that differ from the defaults, by section; new settings of later versions leave it unchanged."""
    values, defaults = to_dict(config), to_dict(Config())
    changed = {
        section: {name: value for name, value in settings.items() if value != defaults[section][name]}
        for section, settings in values.items()
    }
    return {section: settings for section, settings in changed.items() if settings}


T = TypeVar("T")
Changes = Mapping[str, Mapping[str, Any]]  # section -> setting -> value


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values (tuples become lists)."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def from_dict(cls: type[T], values: dict[str, Any], source: str = "the configuration") -> T:
    """Rebuild a configuration; missing keys take their defaults.

    Raises:
        TrivdError: a key is unknown, a value has the wrong type, or settings contradict each other; `source` is named.
    """
    try:
        return dacite.from_dict(cls, values, config=dacite.Config(strict=True, cast=[tuple]))
    except (dacite.DaciteError, AttributeError, TypeError) as error:  # the latter two: not even a table of settings
        raise TrivdError(f"{source} does not fit this version of trivd: {error}.") from error
    except TrivdError as error:
        raise TrivdError(f"{source}: {error}") from error


def override(config: T, changes: Changes, source: str) -> T:
    """`config` with the settings of `changes` (section -> setting -> value) in place of its own."""
    values = to_dict(config)
    for section, settings in changes.items():
        values.setdefault(section, {}).update(settings)
    return from_dict(type(config), values, source)
