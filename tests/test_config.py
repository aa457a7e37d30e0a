"""The configuration: round trips, contradictions that are refused by name, and no setting that nothing reads."""

import ast
import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trivd
from trivd import config as config_module
from trivd.config import (
    Config,
    DataConfig,
    Decomposition,
    DiscriminatorConfig,
    EvaluationConfig,
    ModelConfig,
    MotionLevels,
    TrainingConfig,
    Unit,
    from_dict,
    override,
    to_dict,
)
from trivd.runtime.errors import TrivdError

CONFIGS = [
    Config(),
    Config(
        model=ModelConfig(resolution=256, unit="k_traj_gru", links=3, recurrent_resolutions=(16, 256), classes=101),
        discriminator=DiscriminatorConfig("mocogan_k1", "projection", downsampling=4),
        data=DataConfig(stride=3, workers=0, validation_share=0.25),
        training=TrainingConfig(precision="float32", seed=7, reconstruction=2.5, augment=("cutout", "colour")),
        evaluation=EvaluationConfig(truncation=0.8, clips=3, motion_levels=(16, 256)),
    ),
    Config(model=ModelConfig(unit="ptsru_s", read_gate=True), evaluation=EvaluationConfig(truncation=0.0)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip(config: Config) -> None:
    values = to_dict(config)
    assert from_dict(Config, values) == config
    assert isinstance(from_dict(Config, values).model.recurrent_resolutions, tuple)


@given(
    resolution=st.sampled_from([32, 64, 128, 256]),
    unit=st.sampled_from(get_args(Unit)),
    decomposition=st.sampled_from(get_args(Decomposition)),
    classes=st.integers(0, 600),
    rates=st.tuples(st.floats(1e-9, 1), st.floats(0, 10)),
    truncation=st.none() | st.floats(0, 5),
)
@settings(max_examples=25)
def test_round_trip_of_any_setting(
    resolution: int, unit: Any, decomposition: Any, classes: int, rates: tuple[float, float], truncation: float | None
) -> None:
    config = Config(
        model=ModelConfig(resolution=resolution, unit=unit, classes=classes),
        discriminator=DiscriminatorConfig(decomposition),
        training=TrainingConfig(generator_lr=rates[0], orthogonality=rates[1]),
        evaluation=EvaluationConfig(truncation=truncation),
    )
    assert from_dict(Config, to_dict(config)) == config


def test_missing_settings_take_their_defaults() -> None:
    assert from_dict(Config, {}) == Config()
    assert from_dict(Config, {"model": {"links": 2, "unit": "k_traj_gru"}}).model == ModelConfig(
        links=2, unit="k_traj_gru"
    )


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"model": {"chanels": 3}}, "chanels"),
        ({"modle": {}}, "modle"),
        ({"model": {"resolution": "64"}}, "resolution"),
        ({"model": {"unit": "gru"}}, "unit"),
        ({"discriminator": {"decomposition": "best"}}, "decomposition"),
        ({"training": {"generator_lr": None}}, "generator_lr"),
        ({"model": {"resolution": 48}}, "model.resolution"),
        ({"model": {"generator_widths": {"8": 8}}}, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name_and_source(values: dict[str, Any], named: str) -> None:
    with pytest.raises(TrivdError, match=named) as caught:
        from_dict(Config, values, source="run/config.json")
    assert "run/config.json" in str(caught.value)


def test_override_changes_only_what_it_names() -> None:
    base = Config(model=ModelConfig(classes=7))
    changed = override(base, {"model": {"unit": "conv_gru"}, "training": {"seed": 3}}, "the command line")
    assert changed == Config(model=ModelConfig(classes=7, unit="conv_gru"), training=TrainingConfig(seed=3))
    assert base == Config(model=ModelConfig(classes=7))
    with pytest.raises(TrivdError, match="the command line"):
        override(base, {"training": {"sede": 3}}, "the command line")


SECTIONS = {
    "model": ModelConfig,
    "discriminator": DiscriminatorConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "evaluation": EvaluationConfig,
}
BAD: dict[str, dict[str, list[Any]]] = {
    "model": {
        "resolution": [16, 48, 512],
        "image_channels": [0, 2, 4],
        "conditioning_frames": [0, 1025],
        "predicted_frames": [0, -1, 10**9],
        "generator_channels": [0],
        "discriminator_channels": [0],
        "latent_dim": [0],
        "embedding_dim": [0],
        "links": [0, 2],  # 2: tsru_p has one
        "classes": [-1],
        "kernel_size": [0, 2, -3],
        "warp_size": [(0,), (4,), (-1,), (3, 3), (3, 5, 4), ()],
        "warp_kernels": [0, -1],
        "warp_start_weight": [1 / 9, 1.0, 0.0, math.nan],
        "gate_bias": [math.nan, -math.inf],
        "recurrent_resolutions": [(), (4,), (8, 128), (8, 8), (24,)],
        "generator_widths": [(8, 8, 4), *((8, 8, 4, width) for width in (0, -2, 0.01, math.nan, math.inf, -math.inf))],
        "warp_hidden": [(), (1,), (1, 1, 1), *((1, share) for share in (0, -0.5, math.nan, math.inf))],
        "warp_padding": ["reflect"],
        "unit": ["gru", 1],
        "activation": ["elu"],
    },
    "discriminator": {"frames": [0, -1], "downsampling": [0, 3, 8], "decomposition": ["best"], "head": ["linear"]},
    "data": {
        **{key: [0] for key in ["stride", "digits_clips"]},
        "digits": [0, 101],
        "workers": [-1],
        "validation_share": [0.0, 1.0, -0.5],
        "layout": ["zip"],
        "ucf101_fold": [0, 4],
        "bair_camera": ["front"],
    },
    "training": {
        **{key: [0, -1] for key in ["steps", "batch_size", "microbatch", "discriminator_updates", "r1_every"]},
        **{key: [0] for key in ["log_every", "sample_every", "evaluate_every", "checkpoint_every"]},
        **{key: [0.0, -0.0001] for key in ["generator_lr", "discriminator_lr", "epsilon"]},
        **{key: [-0.1] for key in ["orthogonality", "reconstruction", "lecam", "r1"]},
        **{key: [-0.1, 1.0] for key in ["beta1", "beta2", "ema_decay"]},
        **{key: [-1] for key in ["ema_start", "ema_halflife", "seed"]},
        "reconstruction_samples": [0, 2],  # 2: without reconstruction
        "reconstruction_half_life": [-1, 100],  # 100: without reconstruction
        "diversity": [-0.1, 1.0],  # 1: with one sample of each clip
        "augment": [("flip",), ("colour", "colour")],
        "precision": ["float64"],
        "on_nan": ["ignore"],
        "minutes": [0.0, -1.0, math.inf, math.nan],
    },
    "evaluation": {
        **{key: [0] for key in ["clips", "samples", "batch_size", "standing_batches", "standing_batch_size"]},
        "truncation": [-0.5],
        "seed": [-1],
        "features": ["vgg"],
    },
}
BAD_VALUES = [
    (section, name, value) for section, names in BAD.items() for name, values in names.items() for value in values
]


@pytest.mark.parametrize(("section", "name", "value"), BAD_VALUES)
def test_bad_value_is_refused_by_name(section: str, name: str, value: Any) -> None:
    with pytest.raises(TrivdError, match=rf"{section}\.{name}"):
        SECTIONS[section](**{name: value})


@pytest.mark.parametrize(
    ("section", "values", "named"),
    [
        ("model", {"unit": "conv_lstm", "read_gate": True}, "model.read_gate"),
        ("model", {"unit": "k_traj_gru", "read_gate": True}, "model.read_gate"),
        ("model", {"unit": "tsru_s", "links": 2}, "model.links"),
        ("model", {"resolution": 32, "recurrent_resolutions": (8, 64)}, "model.recurrent_resolutions"),
        ("model", {"resolution": 256, "generator_channels": 3}, "model.generator_channels"),
    ],
)
def test_contradiction_is_refused_by_name(section: str, values: dict[str, Any], named: str) -> None:
    with pytest.raises(TrivdError, match=named):
        SECTIONS[section](**values)


def test_more_frames_drawn_than_predicted_is_refused() -> None:
    model = ModelConfig(predicted_frames=4)
    with pytest.raises(TrivdError, match=r"discriminator\.frames.*model\.predicted_frames"):
        Config(model=model, discriminator=DiscriminatorConfig(frames=5))
    Config(model=model, discriminator=DiscriminatorConfig(frames=4))
    Config(model=model, discriminator=DiscriminatorConfig("mocogan_k1", frames=5))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        # Features of an odd number of channels (here ch = 3 at 128 pixels) have no halves (F.3).
        ({"model": {"unit": "conv_lstm", "recurrent_resolutions": (128,)}}, "model.unit"),
        ({"model": {"unit": "dynamic_conv_lstm", "recurrent_resolutions": (128,)}}, "model.unit"),
        # Four poolings need at least 16 pixels.
        ({"model": {"resolution": 32}, "discriminator": {"downsampling": 4}}, "discriminator.downsampling"),
    ],
)
def test_what_cannot_be_built_is_refused(values: dict[str, Any], named: str) -> None:
    base = {"resolution": 128, "generator_channels": 3, "recurrent_resolutions": (8, 16)}
    with pytest.raises(TrivdError, match=named):
        from_dict(Config, {"model": base | values["model"], "discriminator": values.get("discriminator", {})})


@pytest.mark.parametrize("levels", [(64,), (8, 64), 64, 0, ()])
def test_motion_levels_that_the_model_lacks_are_refused(levels: MotionLevels) -> None:
    with pytest.raises(TrivdError, match=r"^motion_levels is .* recurrent units: 8, 16, 32\.$"):
        Config(evaluation=EvaluationConfig(motion_levels=levels))
    Config(ModelConfig(recurrent_resolutions=(8,)), evaluation=EvaluationConfig(motion_levels=2))  # it has one alone


def test_resolutions_and_frames() -> None:
    assert ModelConfig().frames == 16
    for last, expected in zip((32, 64, 128, 256), itertools.count(3)):
        sizes = ModelConfig(resolution=last).generator_resolutions
        assert (sizes[0], sizes[-1], len(sizes)) == (8, last, expected)


@given(st.integers(1, 500), st.integers(1, 500))
def test_any_whole_number_of_channels_can_be_had(channels: int, wanted: int) -> None:
    """However their quotient is rounded: 50 x 1.1 is 55.00000000000001."""
    config = ModelConfig(generator_channels=channels, generator_widths=(wanted / channels, 1, 1, 1))
    assert config.channels_at(8) == wanted


READ_THROUGH = {
    "frames_at": ("curriculum", "curriculum_start"),
    "channels_at": ("generator_channels", "generator_widths"),
    "warp_size_at": ("warp_size",),
    "reconstruction_weight": ("reconstruction_half_life",),
}


def read_names() -> Iterator[str]:
    """Every attribute that the package reads, of something but `self`, outside of the configuration's own modules.

    Some settings are read through a method of their section, whose use stands for them.
    """
    package = Path(trivd.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent.name == "config" or path == package / "presets.py":
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        methods = {id(node.func) for node in nodes if isinstance(node, ast.Call)}  # tensor.stride() reads no setting
        attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for method, names in READ_THROUGH.items():
            yield from names if method in attributes else ()
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in methods:
                of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
                if not of_self:
                    yield node.attr


def test_every_setting_is_read() -> None:
    sections = [value for value in vars(config_module).values() if dataclasses.is_dataclass(value)]
    assert set(SECTIONS.values()) < set(sections)
    read = set(read_names())
    unread = {f"{cls.__name__}.{f.name}" for cls in sections for f in dataclasses.fields(cls) if f.name not in read}
    assert not unread
