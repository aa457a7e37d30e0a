"""`trivd compare`: the files are read back; all columns predict the same clips with the same z."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_checks import places
from PIL import Image
from torch import Tensor

from trivd.config import DEFAULT_LIMITS, Config, to_dict
from trivd.data.clips import Clip, ClipDataset
from trivd.data.formats.decode import probe, read_frames
from trivd.data.formats.frames import UnreadableVideo
from trivd.evaluation.scorer import clip_latents
from trivd.models.generator import Generator
from trivd.models.pretrained import save_generator, weights_hash
from trivd.pictures.draw import GAP
from trivd.prediction.columns import Column, held_out_clips, labels, open_columns, split_name
from trivd.prediction.comparison import named_clips, random_clips, write_comparison
from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels, to_float

SCALE = 256 // 32  # of frames in the MP4s
LOSS = 6  # grey levels, mean difference that the codec may make


@pytest.fixture
def make_column(tiny_config: Callable[..., Config], make_generator: Callable[..., Generator]) -> Callable[..., Column]:
    def make(name: str = "model", truncation: float | None = None, data: Any = None, **model: Any) -> Column:
        config = tiny_config(model={"predicted_frames": 4} | model, data=data or {})
        history = {"data": "moving-digits", "step": 5, "config": to_dict(config)}
        predictor = Predictor(make_generator(**{"predicted_frames": 4} | model), history)
        predictor.dtype = torch.float32
        return Column(name, predictor, truncation)

    return make


@pytest.fixture
def held_out(make_column: Callable[..., Column]) -> ClipDataset:
    return held_out_clips([make_column()], "moving-digits", None, DEFAULT_LIMITS)


def test_the_files_show_what_the_models_predict(
    make_column: Callable[..., Column], held_out: ClipDataset, tmp_path: Path
) -> None:
    columns = [make_column("a/first", 0.8), make_column("a/first", 0.0), make_column("b/other", unit="conv_gru")]
    clips = named_clips(held_out, [17, 3])
    said = list(write_comparison(columns, clips, tmp_path, about=["Mine."], seed=4, every=2))
    expected = {f"clip-{number}.{kind}" for number in clips for kind in ("mp4", "png")}
    assert {path.name for path in tmp_path.iterdir()} == expected | {"overview.mp4", "comparison.html"}
    assert "clip-17.mp4 and .png: truth | first, truncation 0.8 | first, z = 0 | other, no truncation." in said[0]
    for number, clip in clips.items():
        past = clip.video[:2]
        videos = [clip.video]
        for column in columns:
            future = column.predictor.predict(past, truncation=column.truncation, seed=4 + number)[0]
            videos.append(np.concatenate([past, future]))
        shown = read_frames(tmp_path / f"clip-{number}.mp4", 0, 6, 1, short_side=None, channels=3)
        assert probe(tmp_path / f"clip-{number}.mp4").frames == len(shown) == 6
        for place, video in enumerate(videos):
            left = place * (256 + GAP)
            part = shown[:, -256:, left : left + 256][:, SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
            assert np.abs(part.astype(int) - video).mean() < LOSS
        with Image.open(tmp_path / f"clip-{number}.png") as strip:
            pixels = np.asarray(strip)
        for video in videos:
            assert all(places(pixels, video[frame]) for frame in (1, 3, 5))  # the last given one is among them
            assert not any(places(pixels, video[frame]) for frame in (2, 4))
    page = (tmp_path / "comparison.html").read_text()
    embedded = [base64.b64decode(text) for text in re.findall(r'src="data:[^,]*,([^"]*)"', page)]
    files = ["overview.mp4", "clip-17.mp4", "clip-17.png", "clip-3.mp4", "clip-3.png"]
    assert embedded == [(tmp_path / name).read_bytes() for name in files]
    hashes = {weights_hash(column.predictor.generator)[:12] for column in columns}
    assert len(hashes) == 2
    for text in (
        *hashes,
        "<li>Mine.</li>",
        "Clip 17",
        "Clip 3",
        "seed 4 + n, so all columns share its z",
        "conv_gru",
        "z = 0",
    ):
        assert text in page, text


def test_all_columns_get_the_same_frames_and_the_same_z(
    make_column: Callable[..., Column], held_out: ClipDataset, tmp_path: Path
) -> None:
    given: list[Tensor] = []
    drawn: list[Tensor] = []

    def watch(generator: Generator) -> None:
        decode = generator.decode
        generator.encoder.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
        generator.decode = lambda states, z, *more: drawn.append(z) or decode(states, z, *more)  # type: ignore[method-assign]

    columns = [make_column(), make_column("other", unit="conv_lstm"), make_column("third", latent_dim=6)]
    for column in columns:
        watch(column.predictor.generator)
    clips = named_clips(held_out, [2, 9])
    list(write_comparison(columns, clips, tmp_path, about=[], seed=5))
    assert len(given) == len(drawn) == 6
    for place, number in enumerate(clips):
        for frames in given[3 * place : 3 * place + 3]:
            assert torch.equal(frames[0], to_float(clips[number].video[:2]))
        first, second, third = drawn[3 * place : 3 * place + 3]
        assert torch.equal(first, clip_latents(0, 1, 4, 5 + number, None))
        assert torch.equal(first, second)
        assert third.shape == (1, 6)
    assert "models whose latent sizes differ have other z" in (tmp_path / "comparison.html").read_text()


def test_one_clip_needs_no_overview(make_column: Callable[..., Column], held_out: ClipDataset, tmp_path: Path) -> None:
    list(write_comparison([make_column()], named_clips(held_out, [2]), tmp_path, about=[]))
    assert not (tmp_path / "overview.mp4").exists()


def test_clips_that_one_video_cannot_show_have_no_overview(
    make_column: Callable[..., Column], held_out: ClipDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivd.prediction.comparison.OVERVIEW_HEIGHT", 150)
    list(write_comparison([make_column()], named_clips(held_out, [2, 3, 4]), tmp_path, about=[]))
    assert not (tmp_path / "overview.mp4").exists()
    assert "All clips" not in (tmp_path / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("word", "name", "truncation"),
    [
        ("runs/mine", "runs/mine", None),
        ("runs/mine:0.8", "runs/mine", 0.8),
        ("runs/mine:0", "runs/mine", 0.0),
        ("runs/mine:none", "runs/mine", None),
        ("runs/mine:None", "runs/mine", None),
        ("a:b/model", "a:b/model", None),
        ("a:b/model:0.5", "a:b/model", 0.5),
        (r"C:\runs\mine", r"C:\runs\mine", None),
        (r"C:\runs\mine:1e-1", r"C:\runs\mine", 0.1),
        ("mine:latest", "mine:latest", None),
        ("mine:", "mine:", None),
        (":0.8", ":0.8", None),
        ("there:0.8", "there:0.8", None),  # it exists
        ("there:0.8:0", "there:0.8", 0.0),
    ],
)
def test_the_last_colon_splits_a_truncation_off(
    word: str, name: str, truncation: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there:0.8").mkdir()
    assert split_name(word) == (name, truncation)


def test_labels_tell_models_apart(make_column: Callable[..., Column]) -> None:
    names = ["runs/a/best", "runs/b/best", "owner/model"]
    assert labels([make_column(name) for name in names]) == [
        "a/best\nno truncation",
        "b/best\nno truncation",
        "model\nno truncation",
    ]
    assert labels([make_column(name, 0.8) for name in ("x/model", "y/model", "x/model")]) == [
        "x/model\ntruncation 0.8",
        "y/model\ntruncation 0.8",
        "x/model\ntruncation 0.8",
    ]


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ({"resolution": 64}, {}, "of 64 pixels"),
        ({"predicted_frames": 5}, {}, "2 -> 5 frames"),
        ({"conditioning_frames": 3}, {}, "3 -> 4 frames"),
        ({"image_channels": 1}, {}, "in 1 channel;"),
        ({}, {"stride": 2}, "frames, 2 apart"),
        ({}, {"fps": 25.0}, "frames, 1 apart at 25 frames a second"),
    ],
)
def test_models_of_other_clips_are_refused(
    make_column: Callable[..., Column], tmp_path: Path, model: dict[str, Any], data: dict[str, Any], said: str
) -> None:
    for name, column in (("one", make_column()), ("two", make_column(data=data, **model))):
        save_generator(column.predictor.generator, tmp_path / name, column.predictor.history)
    with pytest.raises(TrivdError, match=rf"one and .*two cannot stand side by side: .*{re.escape(said)}"):
        open_columns([f"{tmp_path / 'one'}:0.8", str(tmp_path / "two")], 0)
    first, second = open_columns([f"{tmp_path / 'one'}:0.8", str(tmp_path / "one")], 0)
    assert first.predictor is second.predictor
    assert (first.truncation, second.truncation) == (0.8, None)


def test_a_model_gets_the_class_of_the_clip(make_column: Callable[..., Column], held_out: ClipDataset) -> None:
    column = make_column(classes=10)
    assert len({held_out.evaluation_clip(number).label for number in range(5)}) > 1
    for number in range(5):
        clip = held_out.evaluation_clip(number)
        expected = column.predictor.predict(clip.video[:2], label=clip.label)[0]
        assert np.array_equal(column.video(clip, 0)[2:], expected)
    with pytest.raises(TrivdError, match="model has 7 classes but moving-digits has 10"):
        held_out_clips([make_column(), make_column(classes=7)], "moving-digits", None, DEFAULT_LIMITS)


class SomeUnreadable:
    """Ten clips, of which some cannot be read."""

    split = "validation"
    evaluation_clips = 10

    def __init__(self, *unreadable: int) -> None:
        self.unreadable = unreadable

    def evaluation_clip(self, index: int) -> Clip:
        if index in self.unreadable:
            raise UnreadableVideo(Path(f"{index // 2}.mp4"), "truncated")  # two clips of each video
        video: Pixels = np.full((4, 2, 2, 3), index, np.uint8)
        return Clip(video, 0)


def test_random_clips_are_those_of_the_seed() -> None:
    drawn = [random_clips(SomeUnreadable(), 4, seed) for seed in (0, 0, 1)]  # type: ignore[arg-type]
    chosen = [list(clips) for clips, _ in drawn]
    assert chosen[0] == chosen[1] == sorted(chosen[0])
    assert chosen[0] != chosen[2]
    assert len(set(chosen[0])) == 4
    assert all((clip.video == number).all() for number, clip in drawn[0][0].items())
    assert list(random_clips(SomeUnreadable(), 99, 0)[0]) == list(range(10))  # type: ignore[arg-type]


def test_others_take_the_place_of_clips_that_cannot_be_read() -> None:
    clips, unreadable = random_clips(SomeUnreadable(0, 1, 2, 3, 4, 5), 4, 0)  # type: ignore[arg-type]
    assert list(clips) == [6, 7, 8, 9]
    assert all("truncated" in line for line in unreadable)
    assert len(unreadable) == len(set(unreadable)) <= 3
    with pytest.raises(TrivdError, match="No held-out clip can be read"):
        random_clips(SomeUnreadable(*range(10)), 4, 0)  # type: ignore[arg-type]


def test_clips_that_are_not_there_are_refused() -> None:
    with pytest.raises(TrivdError, match="--clips names 10, but the validation split has clips 0 to 9"):
        named_clips(SomeUnreadable(), [3, 10])  # type: ignore[arg-type]
    with pytest.raises(UnreadableVideo):
        named_clips(SomeUnreadable(3), [3])  # type: ignore[arg-type]
