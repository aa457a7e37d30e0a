"""Presets against the paper's tables and appendices, written out; and who wins: default, preset or command line."""

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from trivd import presets
from trivd.commands import main as cli
from trivd.commands.main import preset_name
from trivd.config import Config, override, to_dict
from trivd.models.discriminators import DECOMPOSITIONS, Discriminators
from trivd.models.generator import Generator
from trivd.presets import PRESETS, preset
from trivd.runtime.errors import TrivdError

# Table 1, column K (thousands of steps).
TABLE1 = {
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
TABLE2 = ["conv_lstm", "conv_gru", "k_traj_gru", "tsru_c", "tsru_p", "tsru_s", "ptsru_s"]
KINETICS = {"resolution": 64, "image_channels": 3, "conditioning_frames": 5, "predicted_frames": 11}
PAPER = {
    **{
        f"table1-{decomposition}": (
            {**KINETICS, "unit": "conv_gru", "generator_channels": 48, "discriminator_channels": 48},
            {"decomposition": decomposition},
            {"steps": steps, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
        )
        for decomposition, steps in TABLE1.items()
    },
    **{
        f"table2-{unit}": (
            {**KINETICS, "unit": unit, "generator_channels": 48, "discriminator_channels": 48},
            {"decomposition": "faster"},
            {"steps": 500_000, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
        )
        for unit in TABLE2
    },
    **{
        f"conv_lstm-{activation}": (
            {**KINETICS, "unit": "conv_lstm", "activation": activation, "generator_channels": 48},
            {"decomposition": "faster", "head": "mixed_projection"},
            {"steps": 180_000, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
        )
        for activation in ("tanh", "relu")
    },
    **{
        f"head-{head}": (
            {**KINETICS, "unit": "conv_gru", "generator_channels": 48, "discriminator_channels": 48},
            {"decomposition": "dvd_gan_fp", "head": head},
            {"steps": 700_000, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
        )
        for head in ("mixed_projection", "projection")
    },
    **{
        f"kinetics600-{decomposition}_fp": (
            {**KINETICS, "unit": unit, "generator_channels": 48, "discriminator_channels": 48},
            {"decomposition": own},
            {"steps": 1_000_000, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
        )
        for decomposition, unit, own in (
            ("dvd_gan", "conv_gru", "dvd_gan_fp"),
            ("trivd_gan", "tsru_p", "stronger"),
        )
    },
    "table3": (
        {**KINETICS, "unit": "tsru_p", "generator_channels": 120, "discriminator_channels": 120},
        {"decomposition": "stronger"},
        {"steps": 700_000, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
    ),
    "bair": (
        {
            "conditioning_frames": 1,
            "predicted_frames": 15,
            "unit": "tsru_p",
            "generator_channels": 48,
            "discriminator_channels": 92,
        },
        {"decomposition": "stronger"},
        {"generator_lr": 2e-5, "discriminator_lr": 3e-5},
    ),
    "ucf101": (
        {**KINETICS, "unit": "tsru_p", "generator_channels": 92, "discriminator_channels": 92},
        {"decomposition": "stronger"},
        {"steps": 1_000_000, "generator_lr": 1e-4, "discriminator_lr": 5e-4},
    ),
}
# Appendix E and 4.1: the same for every experiment.
RECIPE = {
    "discriminator_updates": 2,
    "beta1": 0.0,
    "beta2": 0.999,
    "orthogonality": 1e-4,
    "reconstruction": 0.0,
    "ema_decay": 0.9999,
    "ema_start": 20_000,
}


def chosen(config: Any, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def test_every_experiment_of_the_paper_has_its_preset() -> None:
    ours = {"quickstart", "quickstart-large", "comparison", "moving-digits", "robot-pushing", "weizmann", "small"}
    assert set(PRESETS) == {*PAPER, "bair-balanced", *ours}
    balanced = preset("bair-balanced")
    assert balanced == override(preset("bair"), {"data": {"balanced_split": True}}, "the test")


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_carry_the_papers_numbers(name: str) -> None:
    config = preset(name)
    model, discriminator, training = PAPER[name]
    assert chosen(config.model, model) == model
    assert chosen(config.discriminator, discriminator) == discriminator
    assert chosen(config.training, training) == training
    assert chosen(config.training, RECIPE) == RECIPE
    assert (config.training.batch_size, config.training.microbatch) == (512, None)
    assert config.data.fps == (None if name in ("bair", "ucf101") else 25)  # 4.1
    assert config.model.latent_dim == config.model.embedding_dim == 128
    assert config.model.recurrent_resolutions == (8, 16, 32)
    assert config.discriminator.head == discriminator.get("head", "mixed_projection")
    assert config.discriminator.frames == 8
    assert config.discriminator.downsampling == 2
    assert config.evaluation.standing_batches == 100
    assert config.evaluation.standing_batch_size == 256


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):  # in full size, without memory
        generator, discriminators = Generator(config.model), Discriminators(config.discriminator, config.model)
    assert generator.config == config.model
    assert discriminators.views == DECOMPOSITIONS[config.discriminator.decomposition]
    assert PRESETS[name].about


def test_presets_state_only_what_differs() -> None:
    """A setting that repeats the default, or its base's value, is noise, unless the experiment is named after it."""
    names = vars(presets)
    named = {"unit", "decomposition", "steps"}
    stated = 0
    for call in ast.walk(ast.parse(Path(presets.__file__).read_text())):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id.endswith("Config"):
            base = names[call.func.id]()
        elif call.func.id == "replace":
            base = eval(ast.unparse(call.args[0]), names)
        else:
            continue
        for keyword in call.keywords:
            if isinstance(keyword.value, ast.Constant | ast.Tuple) and keyword.arg not in named:
                assert keyword.arg is not None
                assert ast.literal_eval(keyword.value) != getattr(base, keyword.arg), ast.unparse(call)
                stated += 1
    assert stated > 60


def test_no_preset_is_the_defaults() -> None:
    assert preset(None) == Config()


def test_an_unknown_preset_is_refused_with_the_choices() -> None:
    with pytest.raises(TrivdError, match=r"no preset table4; choose one of .*table3"):
        preset("table4")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train", "x", "--preset", "bair"], "bair"),
        (["train", "--preset=bair", "x"], "bair"),
        (["train", "x", "--preset"], None),
        (["train", "x"], None),
    ],
)
def test_the_preset_is_found_among_the_arguments(arguments: list[str], name: str | None) -> None:
    assert preset_name(arguments) == name


def parsed(*words: str) -> Config:
    """The settings that `trivd train` would use."""
    command = cli._parse(["train", "moving-digits", *words])
    return Config(command.model, command.discriminator, command.data, command.training, command.evaluation)


def test_defaults_presets_and_the_command_line_in_this_order() -> None:
    assert parsed() == Config()
    assert parsed("--preset", "bair") == preset("bair")
    for words in (
        ("--preset", "bair", "--training.generator-lr", "0.5"),
        ("--training.generator-lr", "0.5", "--preset=bair"),  # the order of the words does not matter
    ):
        config = parsed(*words)
        assert config.training.generator_lr == 0.5  # command line
        assert config.training.discriminator_lr == 3e-5  # preset
        assert config.training.steps == Config().training.steps  # default
        assert dataclasses.replace(config, training=dataclasses.replace(config.training, generator_lr=2e-5)) == preset(
            "bair"
        )
    # Even a value that is the default wins over the preset's.
    assert parsed("--preset", "bair", "--model.conditioning-frames", "5").model.conditioning_frames == 5


def test_every_setting_can_be_set_on_the_command_line() -> None:
    values = {
        "model": {"resolution": 128, "recurrent_resolutions": [8, 128], "unit": "k_traj_gru", "links": 2},
        "discriminator": {"head": "projection", "frames": 3},
        "data": {"stride": 2, "validation_share": 0.5},
        "training": {"precision": "bfloat16", "reconstruction": 2.0, "reconstruction_samples": 3, "device": "cpu"},
        "evaluation": {"truncation": 0.8, "clips": 7},
    }
    words = [
        word
        for section, settings in values.items()
        for name, value in settings.items()
        for word in (f"--{section}.{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value]))
    ]
    read = to_dict(parsed(*words))
    for section, settings in values.items():
        assert {name: read[section][name] for name in settings} == settings
