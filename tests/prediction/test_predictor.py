"""`trivd.load` and what it returns: futures of any clip, the same for the same seed."""

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins import call_directly, record_as_a_gpu

import trivd
from trivd.config import Config, to_dict
from trivd.data.formats.frames import FrameConverter
from trivd.evaluation.scorer import clip_latents
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator
from trivd.prediction.predictor import Predictor
from trivd.prediction.sampling import Sampling
from trivd.runtime.errors import TrivdError
from trivd.runtime.graphs import WARM_UPS, Record
from trivd.runtime.pixels import Pixels, to_float, to_uint8

GIVEN, LENGTH, SIZE = 2, 3, 32


def past(frames: int = GIVEN, height: int = SIZE, width: int = SIZE, channels: int = 3, seed: int = 0) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


@pytest.fixture(scope="module")
def history(tiny_config: Callable[..., Config]) -> dict[str, Any]:
    return {"data": "moving-digits", "step": 0, "config": to_dict(tiny_config())}


@pytest.fixture(scope="module")
def predictor(make_generator: Callable[..., Generator], history: dict[str, Any]) -> Predictor:
    return in_float32(Predictor(make_generator(), history))


def in_float32(predictor: Predictor) -> Predictor:
    predictor.dtype = torch.float32  # whatever the machine gains from
    return predictor


def test_futures_have_the_promised_shape_and_type(predictor: Predictor) -> None:
    futures = predictor.predict(past(), samples=4)
    assert futures.shape == (4, LENGTH, SIZE, SIZE, 3)
    assert futures.dtype == np.uint8
    assert predictor.predict(past()).shape == (1, LENGTH, SIZE, SIZE, 3)


def test_it_is_the_generator_on_the_last_frames(predictor: Predictor) -> None:
    clip = past(5)
    z = clip_latents(0, 2, 4, 7, None)
    given = to_float(clip[-GIVEN:]).expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        expected = to_uint8(predictor.generator(given, z).video)
    assert np.array_equal(predictor.predict(clip, samples=2, seed=7), expected)
    assert np.array_equal(predictor.predict(clip[-GIVEN:], samples=2, seed=7), expected)


def test_the_seed_decides(predictor: Predictor) -> None:
    first = predictor.predict(past(), samples=3, seed=1)
    torch.rand(3)
    assert np.array_equal(predictor.predict(past(), samples=3, seed=1), first)
    assert not np.array_equal(predictor.predict(past(), samples=3, seed=2), first)
    assert not np.array_equal(first[0], first[1])


def test_more_samples_begin_with_the_fewer(make_generator: Callable[..., Generator], history: dict[str, Any]) -> None:
    predictor = in_float32(Predictor(make_generator(latent_dim=16), history))
    few, many = predictor.predict(past(), samples=3), predictor.predict(past(), samples=5)
    assert np.abs(many[:3].astype(int) - few.astype(int)).max() <= 1  # batches of another size may round otherwise


def test_truncation_narrows_the_futures(predictor: Predictor) -> None:
    def spread(truncation: float | None) -> float:
        return float(predictor.predict(past(), samples=6, truncation=truncation).astype(float).std(axis=0).mean())

    constant = predictor.predict(past(), samples=3, truncation=0)
    assert np.array_equal(constant[0], constant[1])
    assert np.array_equal(constant[0], constant[2])
    assert np.array_equal(constant, predictor.predict(past(), samples=3, truncation=0.0, seed=9))
    assert 0 == spread(0) < spread(0.1) < spread(None)


def test_longer_futures_go_on_from_their_own_frames(predictor: Predictor) -> None:
    short = predictor.predict(past(), samples=2, seed=3)
    longer = predictor.predict(past(), samples=2, seed=3, frames=8)  # three parts: 3 + 3 + 2
    assert longer.shape[1] == 8
    assert np.array_equal(longer[:, :LENGTH], short)
    assert not np.array_equal(longer[:, LENGTH : 2 * LENGTH], short)
    with torch.no_grad():
        given = to_float(past()).expand(2, -1, -1, -1, -1)
        parts = []
        for part in range(3):
            video = predictor.generator(given, clip_latents(part, 2, 4, 3, None)).video
            parts.append(video)
            given = video[:, -GIVEN:]
    assert np.array_equal(longer, to_uint8(torch.cat(parts, dim=1))[:, :8])
    assert np.array_equal(predictor.predict(past(), samples=2, seed=3, frames=2), short[:, :2])


def test_models_that_predict_less_than_they_are_given_keep_the_newest_frames(
    make_generator: Callable[..., Generator], history: dict[str, Any]
) -> None:
    predictor = in_float32(Predictor(make_generator(conditioning_frames=4, predicted_frames=2), history))
    clip = past(4)
    with torch.no_grad():
        first = predictor.generator(to_float(clip)[None], clip_latents(0, 1, 4, 0, None)).video
        given = torch.cat([to_float(clip)[None, 2:], first], dim=1)
        second = predictor.generator(given, clip_latents(1, 1, 4, 0, None)).video
    assert np.array_equal(predictor.predict(clip, frames=4), to_uint8(torch.cat([first, second], dim=1)))


@pytest.mark.parametrize("record", [call_directly, record_as_a_gpu])
def test_recorded_futures_are_the_same(
    make_generator: Callable[..., Generator], history: dict[str, Any], record: Record
) -> None:
    plain, recorded = (in_float32(Predictor(make_generator(), history)) for _ in range(2))
    recorded.record = record
    for seed in range(WARM_UPS + 2):
        one, two = Sampling(1, seed=seed, frames=7), Sampling(2, seed=seed)
        wanted, found = (predictor.draw(past(seed=seed), one, motion=2) for predictor in (plain, recorded))
        assert np.array_equal(wanted.video, found.video)
        assert wanted.motion is not None
        assert found.motion is not None
        assert torch.equal(wanted.motion, found.motion)
        several, others = (predictor.draw(past(seed=seed), two).video for predictor in (plain, recorded))
        assert np.abs(several.astype(int) - others.astype(int)).max() <= 1  # E sees one clip instead of two


def test_motion_comes_with_the_futures(predictor: Predictor) -> None:
    futures = predictor.draw(past(), Sampling(2, frames=7), motion=2)
    assert futures.motion is not None
    assert futures.motion.shape == (7, 2, 2, SIZE, SIZE)
    assert futures.motion.isfinite().all()
    assert predictor.draw(past(), Sampling(2)).motion is None
    assert np.array_equal(futures.video, predictor.predict(past(), 2, frames=7))


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 40), (20, 16), (33, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_sizes_are_resized_and_cropped_in_the_middle(
    predictor: Predictor, height: int, width: int, channels: int
) -> None:
    clip = past(3, height, width, channels)
    fitted = predictor.fit(clip)
    assert fitted.shape == (3, SIZE, SIZE, 3)
    converter = FrameConverter(SIZE, 3)
    whole = np.stack([converter.array(frame) for frame in clip])
    assert min(whole.shape[1:3]) == SIZE
    top, left = (whole.shape[1] - SIZE) // 2, (whole.shape[2] - SIZE) // 2
    assert np.array_equal(fitted, whole[:, top : top + SIZE, left : left + SIZE])
    assert np.array_equal(predictor.predict(clip), predictor.predict(fitted))


def test_the_middle_is_kept(predictor: Predictor) -> None:
    clip = np.zeros((2, 64, 128, 3), np.uint8)
    clip[:, :, 32:96] = 200
    assert (predictor.fit(clip)[:, :, 2:-2] == 200).all()
    assert predictor.fit(past()) is not None
    assert np.array_equal(predictor.fit(past()), past())


def test_grey_models_take_colours(make_generator: Callable[..., Generator], history: dict[str, Any]) -> None:
    predictor = Predictor(make_generator(image_channels=1), history)
    assert predictor.predict(past(channels=3)).shape == (1, LENGTH, SIZE, SIZE, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (past().astype(np.float32) / 255, r"must be uint8 .*, not float32 \(2, 32, 32, 3\)"),
        (past()[..., 0], r"not uint8 \(2, 32, 32\)"),
        (np.zeros((2, 32, 32, 4), np.uint8), r"not uint8 \(2, 32, 32, 4\)"),
        (past(1), "needs 2 frames to start from, but there are 1"),
    ],
)
def test_clips_that_do_not_fit_are_refused(predictor: Predictor, wrong: Any, message: str) -> None:
    with pytest.raises(TrivdError, match=message):
        predictor.predict(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "Cannot draw 0 samples"),
        ({"frames": 0}, "of 0 frames"),
        ({"frames": -1}, "of -1 frames"),
        ({"label": 1}, "Class 1 is unknown"),
        ({"label": -1}, "Class -1 is unknown"),
        ({"seed": -1}, "Seed is -1; it must not be negative"),
        ({"truncation": -0.5}, r"Truncation is -0\.5; it must be a number of at least 0"),
    ],
)
def test_values_out_of_range_are_refused(predictor: Predictor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrivdError, match=message):
        predictor.predict(past(), **options)


def test_the_label_reaches_the_model(make_generator: Callable[..., Generator], history: dict[str, Any]) -> None:
    predictor = in_float32(Predictor(make_generator(classes=3), history))
    with torch.no_grad():
        expected = predictor.generator(to_float(past())[None], clip_latents(0, 1, 4, 0, None), torch.tensor([2])).video
    assert np.array_equal(predictor.predict(past(), label=2), to_uint8(expected))
    assert not np.array_equal(predictor.predict(past(), label=2), predictor.predict(past(), label=1))


def test_save_and_load_give_back_the_same_futures(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save_pretrained(tmp_path / "model")
    loaded = in_float32(trivd.load(tmp_path / "model", device="cpu"))
    assert loaded.config == predictor.config
    assert loaded.history == predictor.history
    for name, tensor in predictor.generator.state_dict().items():
        assert torch.equal(loaded.generator.state_dict()[name], tensor)
    assert np.array_equal(loaded.predict(past(), 2), predictor.predict(past(), 2))
    with pytest.raises(TrivdError, match="is not empty"):
        predictor.save_pretrained(tmp_path / "model")


def test_a_runs_folder_gives_its_best_model(predictor: Predictor, tmp_path: Path) -> None:
    save_generator(predictor.generator, tmp_path / "run" / "best", predictor.history | {"step": 8})
    save_generator(predictor.generator, tmp_path / "run" / "last", predictor.history | {"step": 9})
    assert trivd.load(str(tmp_path / "run")).history["step"] == 8
    assert trivd.load(tmp_path / "run" / "last").history["step"] == 9


def test_a_model_without_standing_statistics_is_refused(
    tiny_config: Callable[..., Config], history: dict[str, Any]
) -> None:
    with pytest.raises(TrivdError, match="no standing statistics"):
        Predictor(Generator(tiny_config().model), history)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match="There is no model at"):
        trivd.load(tmp_path / "nowhere")
    with pytest.raises(TrivdError, match="not a trivd model"):
        trivd.load(tmp_path)
    with pytest.raises(TrivdError, match="There is no model at justaname"):
        trivd.load("justaname")


def test_hub_names_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_hub(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_hub)
    with pytest.raises(TrivdError, match=r"no folder someone/model.*install trivd\[hub\]"):
        trivd.load("someone/model")


def fake_hub(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str]) -> None:
    hub, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    hub.snapshot_download = download  # type: ignore[attr-defined]
    errors.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})  # type: ignore[attr-defined]
    errors.HFValidationError = type("HFValidationError", (ValueError,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)


def test_hub_names_are_downloaded(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_generator(predictor.generator, tmp_path / "cache", predictor.history)
    asked: list[tuple[str, Any]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path / "cache")

    fake_hub(monkeypatch, download)
    assert trivd.load("someone/model").config == predictor.config
    assert asked == [("someone/model", ["config.json", "model.safetensors"])]  # and nothing else, whatever lies there


def test_a_hub_that_does_not_answer_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, allow_patterns: list[str]) -> str:
        raise OSError("no network")

    fake_hub(monkeypatch, download)
    with pytest.raises(TrivdError, match="the hub did not give such a model: no network"):
        trivd.load("someone/model")
