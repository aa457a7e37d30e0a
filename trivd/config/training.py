"""Settings of the training recipe."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from trivd.config.checks import at_least, check_literals, require

Augmentation = Literal["translation", "colour", "cutout"]
CudaGraph = Literal["auto", "on", "off"]
OnNan = Annotated[Literal["stop", "rollback"], tyro.conf.arg(aliases=["--on-nan"])]


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe (4.1, E.1, E.2)."""

    steps: int = 1_000_000  # generator updates, at most
    minutes: float | None = None  # that steps may take; schedules in steps then stretch over them. None: any number
    batch_size: int = 512  # clips of an update, over all processes and passes
    microbatch: int | None = None  # most clips that a process takes in a pass; None: its whole share
    discriminator_updates: int = 2  # per generator update
    generator_lr: float = 1e-4
    discriminator_lr: float = 5e-4
    curriculum: float = 0.0  # share of the run in which predicted frames grow to all; not in the paper, 0: all at once
    curriculum_start: int = 4  # predicted frames of its first steps
    lr_cooldown: float = 0.0  # share of the run, at its end, in which both rates fall linearly to 0; not in the paper
    beta1: float = 0.0  # Adam
    beta2: float = 0.999
    epsilon: float = 1e-8
    orthogonality: float = 1e-4  # weight of the orthogonality penalty on G and E
    reconstruction: float = 0.0  # weight of L1(truth, mean of the samples); not in the paper, for small data
    reconstruction_samples: int = 1  # samples of a clip in G's update, which the mean is taken over
    reconstruction_half_life: int = 0  # steps in which its weight halves, so that D takes over; 0: constant
    diversity: float = 0.0  # weight of DSGAN's term, which parts a clip's samples (Yang et al. 2019); not in the paper
    lecam: float = 0.0  # weight of LeCam's regulariser of D (Tseng et al. 2021); not in the paper, for small data
    r1: float = 0.0  # gamma of R1, the penalty on D's gradients at real clips (Mescheder et al. 2018); not in the paper
    r1_every: int = 16  # steps from one with R1 to the next, which weighs so many times as much (StyleGAN2)
    augment: tuple[Augmentation, ...] = ()  # of all that D sees, in this order (Zhao et al. 2020); not in the paper
    ema_decay: float = 0.9999
    ema_start: int = 20_000  # step whose weights begin the average
    ema_halflife: int = 0  # clips of G's updates in which a weight's share in the average halves; 0: by ema_decay
    seed: int = 0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the hardware gains from it
    device: str = "auto"  # auto: cuda where there is one, else cpu
    cuda_graph: CudaGraph = "auto"  # launch a step as one CUDA graph; auto: on a GPU that trains alone
    checkpoint_activations: bool = False  # recompute the blocks in backward: about half the memory, more work
    on_nan: OnNan = "stop"  # when a loss is not finite: stop, or go back to the last checkpoint and on with other clips
    patience: int = 600  # seconds that a process waits for the others before it ends
    log_every: int = 100  # steps, as all the following
    sample_every: int = 1_000  # a grid of samples
    evaluate_every: int = 5_000  # scores on fixed training clips, which choose the best model, and on validation ones
    checkpoint_every: int = 1_000

    def __post_init__(self) -> None:
        check_literals("training", self)
        at_least(1, "training", self, "steps", "batch_size", "discriminator_updates", "patience", "curriculum_start")
        at_least(1, "training", self, "reconstruction_samples")
        at_least(1, "training", self, "log_every", "sample_every", "evaluate_every", "checkpoint_every")
        at_least(0, "training", self, "orthogonality", "reconstruction", "reconstruction_half_life")
        at_least(0, "training", self, "ema_start", "ema_halflife", "seed")
        at_least(0, "training", self, "diversity", "lecam", "r1")
        at_least(1, "training", self, "r1_every")
        require(
            len(set(self.augment)) == len(self.augment),
            f"training.augment is {', '.join(self.augment)}; name each augmentation once.",
        )
        require(
            self.minutes is None or 0 < self.minutes < math.inf,
            f"training.minutes is {self.minutes}; it must be positive, or None.",
        )
        if self.microbatch is not None:
            at_least(1, "training", self, "microbatch")
        for name in ("generator_lr", "discriminator_lr", "epsilon"):
            require(
                0 < getattr(self, name) < math.inf, f"training.{name} is {getattr(self, name)}; it must be positive."
            )
        for name in ("curriculum", "lr_cooldown"):
            require(
                0 <= getattr(self, name) <= 1,
                f"training.{name} is {getattr(self, name)}; it must be a share, from 0 to 1.",
            )
        for name in ("beta1", "beta2", "ema_decay"):
            require(0 <= getattr(self, name) < 1, f"training.{name} is {getattr(self, name)}; it must be in [0, 1).")
        require(
            self.reconstruction_half_life == 0 or self.reconstruction > 0,
            "training.reconstruction_half_life has no effect while training.reconstruction is 0; set both or neither.",
        )
        require(
            self.reconstruction_samples == 1 or self.reconstruction > 0 or self.diversity > 0,
            "training.reconstruction_samples has no effect while training.reconstruction and training.diversity are 0; "
            "set one of these, or leave it at 1.",
        )
        require(
            self.diversity == 0 or self.reconstruction_samples > 1,
            "training.diversity compares the samples of a clip; set training.reconstruction_samples to 2 or more.",
        )

    def position(self, step: int, share: float) -> float:
        """Where schedules stand that are given in steps, in steps of a whole run of `steps`.

        Args:
            step: counted from 0.
            share: of `minutes`, spent before it; 0 without them.
        """
        return max(step, share * self.steps)

    def reconstruction_weight(self, position: float) -> float:
        """Weight of L1 at a position, see `position`."""
        if not self.reconstruction_half_life:
            return self.reconstruction
        return self.reconstruction * 0.5 ** (position / self.reconstruction_half_life)

    def rate(self, position: float) -> float:
        """Learning rates at a position, see `position`, as a share of their settings."""
        if not self.lr_cooldown:
            return 1.0
        return min(1.0, (1 - position / self.steps) / self.lr_cooldown)

    def has_r1(self, step: int) -> bool:
        """Whether R1 is a part of a step, counted from 0: of the last of every `r1_every`."""
        return self.r1 > 0 and (step + 1) % self.r1_every == 0

    @property
    def losses(self) -> str:
        """The losses that train G, in words for protocols and pages."""
        more = f" and diversity x {self.diversity:g}" if self.diversity else ""
        if not self.reconstruction:
            return f"adversarial losses{more or ' alone'}"
        half_life = self.reconstruction_half_life
        every = f"{half_life} steps" if self.minutes is None else f"{half_life / self.steps:.0%} of the run"
        halved = f" (halved every {every})" if half_life else ""
        return f"adversarial losses and L1 x {self.reconstruction:g}{halved}{more}"
