"""The paper's experiments and ours: each preset states only what differs from the defaults in `trivd.config`."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from trivd.config import (
    Config,
    DataConfig,
    Decomposition,
    DiscriminatorConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    Unit,
)
from trivd.runtime.errors import TrivdError


@dataclass(frozen=True)
class Preset:
    """A configuration, and what it is for."""

    about: str
    config: Config
    larger: str | None = None  # preset that a fast machine trains in its place, see `trivd.training.trial`


# Steps of Table 1: the same 103 hours for every decomposition, so fewer of the slower ones.
TABLE1_STEPS: dict[Decomposition, int] = {
    "clip": 758_000,
    "downsampled": 1_000_000,
    "cropped": 997_000,
    "cropped_downsampled": 792_000,
    "mocogan_k1": 651_000,
    "mocogan_k8": 561_000,
    "dvd_gan_fp": 689_000,
    "faster": 817_000,
    "stronger": 675_000,
}
assert set(TABLE1_STEPS) == set(get_args(Decomposition))

TABLE2_UNITS: tuple[Unit, ...] = ("conv_lstm", "conv_gru", "k_traj_gru", "tsru_c", "tsru_p", "tsru_s", "ptsru_s")

# F.1 and E.1: what is compared, and the paper's FVD.
CONV_LSTM_ACTIVATIONS: dict[Literal["relu", "tanh"], float] = {"relu": 51.8, "tanh": 62.7}
HEADS: dict[Literal["mixed_projection", "projection"], float] = {"mixed_projection": 55.0, "projection": 64.2}

KINETICS = DataConfig(fps=25.0)  # 4.1; files have 24 to 60 frames a second

BAIR = Config(
    model=ModelConfig(conditioning_frames=1, predicted_frames=15, discriminator_channels=92),
    training=TrainingConfig(generator_lr=2e-5, discriminator_lr=3e-5),
)

# Batches far below 512 and a few thousand steps: higher rates for G, an average that starts early, and L1 to hold the
# content in place while the discriminators are still weak (as DGMR; not in the paper).
SMALL_DATA = TrainingConfig(
    generator_lr=2e-3,
    reconstruction=300.0,
    ema_decay=0.99,
    ema_start=100,
)

# The smallest model whose futures of moving-digits are better than copies; two to three steps a second on two cores.
DIGITS32 = Config(
    model=ModelConfig(
        resolution=32,
        conditioning_frames=3,
        predicted_frames=8,
        generator_channels=4,
        discriminator_channels=6,
        recurrent_resolutions=(16, 32),
    ),
    discriminator=DiscriminatorConfig(frames=4),
    # A strong L1 brings the content into place sooner; discriminators sharpen it later, from about step 1,500 on.
    training=replace(SMALL_DATA, batch_size=8, generator_lr=1.5e-3, reconstruction=1000.0),
    evaluation=EvaluationConfig(clips=256, samples=10, standing_batch_size=32),
)

QUICKSTART = replace(
    DIGITS32,
    training=replace(
        DIGITS32.training,
        steps=100_000,  # more than any machine makes
        minutes=4.0,
        # As `comparison`: in so few steps its samples are closer to the truth than those of a stronger L1.
        discriminator_lr=2e-4,
        reconstruction=100.0,
        ema_halflife=550,
        log_every=20,
        sample_every=50,
        evaluate_every=125,  # the distance falls and rises: the best model is kept
        checkpoint_every=100,
    ),
    evaluation=replace(DIGITS32.evaluation, best_of_clips=32, standing_batches=4),
)

VIDEOS64 = Config(
    # A unit at the output resolution too: it can carry a still or textured background by warping it.
    model=ModelConfig(generator_channels=6, discriminator_channels=8, recurrent_resolutions=(16, 32, 64)),
    discriminator=DiscriminatorConfig(frames=4),
    training=replace(SMALL_DATA, batch_size=4, checkpoint_every=250),
    evaluation=EvaluationConfig(clips=64, best_of_clips=32, samples=10, standing_batches=8, standing_batch_size=16),
)


PRESETS: dict[str, Preset] = {
    **{
        f"table1-{decomposition}": Preset(
            f"Table 1, decomposition {decomposition} on Kinetics-600",
            Config(
                model=ModelConfig(unit="conv_gru"),
                discriminator=DiscriminatorConfig(decomposition=decomposition),
                data=KINETICS,
                training=TrainingConfig(steps=steps),
            ),
        )
        for decomposition, steps in TABLE1_STEPS.items()
    },
    **{
        f"table2-{unit}": Preset(
            f"Table 2, unit {unit} on Kinetics-600",
            Config(
                model=ModelConfig(unit=unit),
                discriminator=DiscriminatorConfig(decomposition="faster"),
                data=KINETICS,
                training=TrainingConfig(steps=500_000),
            ),
        )
        for unit in TABLE2_UNITS
    },
    **{
        f"conv_lstm-{activation}": Preset(
            f"F.1, ConvLSTM with {activation} on Kinetics-600: FVD {distance} of training clips in the paper",
            Config(
                model=ModelConfig(unit="conv_lstm", activation=activation),
                discriminator=DiscriminatorConfig(decomposition="faster"),
                data=KINETICS,
                training=TrainingConfig(steps=180_000),
            ),
        )
        for activation, distance in CONV_LSTM_ACTIVATIONS.items()
    },
    **{
        f"head-{head}": Preset(
            f"E.1, DVD-GAN-FP with the head {head} on Kinetics-600: FVD {distance} in the paper",
            Config(
                model=ModelConfig(unit="conv_gru"),
                discriminator=DiscriminatorConfig(decomposition="dvd_gan_fp", head=head),
                data=KINETICS,
                training=TrainingConfig(steps=700_000),
            ),
        )
        for head, distance in HEADS.items()
    },
    "table3": Preset(
        "Table 3, TrIVD-GAN-FP on Kinetics-600: FVD 25.74 in the paper",
        Config(
            model=ModelConfig(generator_channels=120, discriminator_channels=120),
            data=KINETICS,
            training=TrainingConfig(steps=700_000),
        ),
    ),
    "bair": Preset(
        "BAIR robot pushing, 1 -> 15 frames: FVD 103.3 in the paper (C.1)",
        BAIR,
    ),
    "bair-balanced": Preset(
        "the same on the paper's balanced split: FVD 31.8 in the paper (C.1)",
        replace(BAIR, data=DataConfig(balanced_split=True)),
    ),
    "kinetics600-dvd_gan_fp": Preset(
        "DVD-GAN-FP, ch 48, on Kinetics-600: FVD 117 on UCF-101 in the paper (C.2)",
        Config(
            model=ModelConfig(unit="conv_gru"),
            discriminator=DiscriminatorConfig(decomposition="dvd_gan_fp"),
            data=KINETICS,
        ),
    ),
    "kinetics600-trivd_gan_fp": Preset(
        "TrIVD-GAN-FP, ch 48, on Kinetics-600: FVD 95.8 on UCF-101 in the paper (C.2)",
        Config(data=KINETICS),
    ),
    "ucf101": Preset(
        "UCF-101, FVD 55.2 in the paper (C.2)",
        Config(model=ModelConfig(generator_channels=92, discriminator_channels=92)),
    ),
    "quickstart": Preset(
        "moving-digits at 32 pixels in four minutes of training; on a fast machine quickstart-large",
        QUICKSTART,
        larger="quickstart-large",
    ),
    "quickstart-large": Preset(
        "the larger of the two sizes that quickstart chooses from",
        replace(QUICKSTART, model=replace(QUICKSTART.model, generator_channels=8, discriminator_channels=12)),
    ),
    "comparison": Preset(
        "the same with more weight on discriminators, to compare units and decompositions with several seeds",
        replace(
            DIGITS32,
            # Less L1, as in the paper, which has none; slower discriminators, as they would win too soon otherwise.
            # The Fréchet distance falls to the same value in half the steps of quickstart's recipe.
            training=replace(
                DIGITS32.training,
                steps=1_000,
                discriminator_lr=2e-4,
                reconstruction=100.0,
                sample_every=500,
                evaluate_every=250,
                checkpoint_every=250,
            ),
            evaluation=replace(DIGITS32.evaluation, best_of_clips=64, standing_batches=8),
        ),
    ),
    "moving-digits": Preset(
        "the bundled model of that name: moving-digits at 64 pixels, in a few hours on two CPU cores",
        replace(
            VIDEOS64,
            # Digits move by up to 4 pixels a frame: 2 at half the resolution, which 5 x 5 kernels reach.
            # Started nearer to copies, fewer of their 25 taps are lost to others early (docs/results/bundled-model.md).
            model=replace(VIDEOS64.model, warp_size=(5,), warp_start_weight=0.21),
            # As quickstart's, with one update of the discriminators, since they win anyway, and a longer average.
            training=replace(
                VIDEOS64.training,
                steps=12_000,
                discriminator_updates=1,
                precision="bfloat16",  # in float32 it learns slower (docs/results/bundled-model.md)
                generator_lr=1.5e-3,
                reconstruction=1000.0,
                reconstruction_half_life=4_000,
                ema_decay=0.998,
                sample_every=500,
                evaluate_every=500,
            ),
            evaluation=replace(VIDEOS64.evaluation, clips=256, best_of_clips=64),
        ),
    ),
    "robot-pushing": Preset(
        "the simulated robot-pushing at 64 pixels, 1 -> 15 frames as BAIR's (trivd prepare robot-pushing)",
        replace(VIDEOS64, model=replace(VIDEOS64.model, conditioning_frames=1, predicted_frames=15)),
    ),
    "weizmann": Preset(
        "real videos of people at 64 pixels, in about an hour on a CPU core (trivd replicate)",
        replace(
            VIDEOS64,
            training=replace(
                VIDEOS64.training, steps=1_500, reconstruction=1000.0, sample_every=300, evaluate_every=300
            ),
        ),
    ),
    "small": Preset(
        "a folder of your own videos at 64 pixels on a CPU or a small GPU",
        replace(
            VIDEOS64,
            training=replace(VIDEOS64.training, steps=20_000, log_every=50, sample_every=250, evaluate_every=250),
        ),
    ),
}


def preset(name: str | None) -> Config:
    """The configuration of a preset; the defaults for None.

    Raises:
        TrivdError: there is no preset of that name.
    """
    if name is None:
        return Config()
    if name not in PRESETS:
        raise TrivdError(f"There is no preset {name}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name].config
