"""An evaluation says all that its figures depend on, survives its file, and goes on after a stop."""

import dataclasses
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from lpips_weights import made_up
from safetensors.torch import load_file, save_file
from stand_ins import Means

from trivd.config import Config, to_dict
from trivd.data.clips import ClipDataset, open_clips
from trivd.data.loader import evaluation_numbers
from trivd.evaluation.collecting import Columns
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.metrics.frechet import bias_estimate, frechet_distance
from trivd.evaluation.metrics.inception import inception_score
from trivd.evaluation.networks.features import FeatureNetwork, Features
from trivd.evaluation.networks.lpips import Lpips
from trivd.evaluation.outcome import Evaluation, Spread, read_evaluation
from trivd.evaluation.partial import PartialResults
from trivd.evaluation.scorer import ModelForecaster, Scorer
from trivd.evaluation.standing import refresh_standing_statistics
from trivd.evaluation.subjects import TrainedModel, copy_subject, model_subject
from trivd.models.generator import Generator
from trivd.models.pretrained import weights_hash
from trivd.runtime.errors import TrivdError

DATA = "moving-digits"
CPU = torch.device("cpu")
MakeConfig = Callable[..., Config]
MakeGenerator = Callable[..., Generator]


def splits(config: Config) -> tuple[ClipDataset, ClipDataset]:
    train, held_out = (open_clips(DATA, split, config.data, config.model) for split in ("train", "validation"))
    return train, held_out


def score(
    config: Config,
    generator: Generator,
    report: Path,
    network: FeatureNetwork | None = None,
    steps: list[str] | None = None,
    standing: str | None = None,
) -> Evaluation:
    history = {"data": DATA, "step": 77, "config": to_dict(config)}
    train, held_out = splits(config)
    subject = model_subject(TrainedModel(generator, history, torch.float32), train, config.evaluation)

    if standing is not None:
        subject = dataclasses.replace(subject, standing_statistics=standing)

    def progress(what: str, done: int, total: int) -> None:
        if steps is not None:
            steps.append(f"{what} {done}/{total}")

    clips = HeldOut(held_out, DATA, 1)
    return evaluate(subject, clips, config.evaluation, network, device=CPU, report=report, progress=progress)


@pytest.fixture(scope="module")
def config(tiny_config: MakeConfig) -> Config:
    return tiny_config(
        evaluation={"clips": 5, "best_of_clips": 3, "runs": 2, "truncation": 0.8, "seed": 5},
        training={"reconstruction": 30.0},
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluated") / "new" / "report.json"


@pytest.fixture(scope="module")
def evaluation(config: Config, make_generator: MakeGenerator, report: Path) -> Evaluation:
    return score(config, make_generator(), report, Means())


def test_the_protocol_names_what_figures_depend_on(evaluation: Evaluation, make_generator: MakeGenerator) -> None:
    line = str(evaluation.protocol)
    for part in (
        "moving-digits, validation split, 32 pixels, stride 1",
        "2 frames given, 3 predicted and counted",
        "3 clips x 2 samples",
        "distances of 5 clips x 1 sample against the same 5 true clips, 5 frames compared (given ones included)",
        "features means",
        "2 runs from seed 5",
        "truncation 0.8",
        "standing statistics 2 x 2 at truncation 0.8",
        f"weights {weights_hash(make_generator())[:12]} after 77 steps",
        "L1 x 30",
        "float32",
    ):
        assert part in line, part
    plain = dataclasses.replace(evaluation.protocol, truncation=None, compared_frames=3, runs=1, inception_splits=4)
    for part in ("no truncation", "3 frames compared (given ones left out)", "1 run from", "in 4 splits"):
        assert part in str(plain)
    assert "inception" not in str(dataclasses.replace(plain, features=""))
    resampled = dataclasses.replace(plain, fps=25.0)
    assert "32 pixels, stride 1 at 25 frames a second; 2 frames given" in str(resampled)
    assert "a second" not in line


def test_lpips_stands_beside_the_others(
    config: Config, make_generator: MakeGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Lpips("alex", *made_up("alex"), "made-up AlexNet")
    monkeypatch.setattr("trivd.evaluation.evaluate.choose_lpips", lambda *_: network)
    settings = dataclasses.replace(config.evaluation, clips=4, best_of_clips=2, runs=1)
    config = dataclasses.replace(config, evaluation=settings)
    evaluation = score(config, make_generator(), tmp_path / "report.json", None)
    one, best = (evaluation.figure(f"LPIPS (AlexNet), {series}") for series in ("one sample", "best of 2"))
    assert 0 < best.model.mean <= one.model.mean
    assert len(evaluation.curves["lpips-alex"]["best of 2"]) == 3
    assert "; LPIPS by made-up AlexNet; 1 run" in str(evaluation.protocol)
    assert [row.name for row in evaluation.absent] == ["FVD", "IS"]
    assert read_evaluation(tmp_path / "report.json") == evaluation


def test_figures_are_those_of_each_run(evaluation: Evaluation, config: Config, make_generator: MakeGenerator) -> None:
    generator, (train, held_out) = make_generator(), splits(config)
    scorer = Scorer(held_out, 2, Means(), True, CPU)
    reference = scorer.reference(evaluation_numbers(held_out, 5))
    distances, inceptions, ssims, diversities = [], [], [], []
    for run in range(2):
        settings = dataclasses.replace(config.evaluation, seed=5 + run)
        refresh_standing_statistics(generator, train, settings, torch.float32)
        model = ModelForecaster(generator, torch.float32, 5, 0.8)
        single = scorer.single(model, run, evaluation_numbers(held_out, 5))
        several = scorer.several(model, run, 2, (2,), evaluation_numbers(held_out, 3))
        distances.append(frechet_distance(reference["truth/embedding"], single["model/embedding"]))
        inceptions.append(inception_score(single["model/logits"], 1)[0])
        ssims.append(float(several["ssim/best 2"].mean()))
        diversities.append(float(several["diversity"].mean()))
    loose = {"rel": 2e-3, "abs": 1e-3}
    fvd, inception = evaluation.figure("FVD (means)"), evaluation.figure("IS (means)")
    assert fvd.model.runs == pytest.approx(distances, **loose)
    assert fvd.model.mean == pytest.approx(sum(distances) / 2, **loose)
    assert fvd.model.std == pytest.approx(statistics.stdev(distances), **loose)
    assert fvd.copy == pytest.approx(frechet_distance(reference["truth/embedding"], reference["copy/embedding"]))
    assert fvd.truth == pytest.approx(bias_estimate(reference["truth/embedding"]))
    assert inception.model.runs == pytest.approx(inceptions, **loose)
    assert evaluation.figure("SSIM, best of 2").model.runs == pytest.approx(ssims, **loose)
    assert evaluation.figure("diversity [grey levels]").model.runs == pytest.approx(diversities, **loose)
    with pytest.raises(KeyError):
        evaluation.figure("FVD")


def test_curves_average_to_the_figures(evaluation: Evaluation) -> None:
    for score, title in (("psnr", "PSNR [dB]"), ("ssim", "SSIM")):
        assert set(evaluation.curves[score]) == {"copy the last frame", "one sample", "mean of 2 samples", "best of 2"}
        for series, values in evaluation.curves[score].items():
            assert len(values) == 3
            if series != "copy the last frame":
                figure = evaluation.figure(f"{title}, {series}")
                assert sum(values) / 3 == pytest.approx(figure.model.mean)
                assert figure.copy == pytest.approx(sum(evaluation.curves[score]["copy the last frame"]) / 3)
    sharpness = evaluation.figure("sharpness [grey levels / pixel]")
    assert sum(evaluation.curves["sharpness"]["truth"]) / 3 == pytest.approx(sharpness.truth)
    assert sum(evaluation.curves["sharpness"]["one sample"]) / 3 == pytest.approx(sharpness.model.mean)


def test_few_clips_are_warned_of(evaluation: Evaluation) -> None:
    (warning,) = evaluation.warnings
    assert "FVD (means) of 5 clips is biased" in warning
    assert f"{evaluation.figure('FVD (means)').truth:.3g}" in warning


def test_the_same_evaluation_gives_the_same_figures(
    evaluation: Evaluation, config: Config, make_generator: MakeGenerator, tmp_path: Path
) -> None:
    spoilt = make_generator()
    spoilt.output_norm.standing_mean.fill_(float("nan"))  # standing statistics are redone
    assert score(config, spoilt, tmp_path / "report.json", Means()) == evaluation


def test_without_a_network_there_are_no_distances(
    evaluation: Evaluation, config: Config, make_generator: MakeGenerator, tmp_path: Path
) -> None:
    plain = score(config, make_generator(), tmp_path / "report.json")
    names = {figure.name for figure in plain.figures}
    assert names == {figure.name for figure in evaluation.figures} - {"FVD (means)", "IS (means)"}
    assert plain.warnings == []
    assert plain.curves == evaluation.curves


def test_a_stopped_evaluation_goes_on(
    evaluation: Evaluation,
    config: Config,
    make_generator: MakeGenerator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever was finished is not computed again, and the result is that of an undisturbed evaluation."""
    report, calls, compute = tmp_path / "report.json", [], Scorer.single

    def counted(self: Scorer, forecaster: ModelForecaster, run: int, numbers: Sequence[int]) -> Columns:
        calls.append((run, tuple(numbers)))
        if len(calls) == 5:  # the second batch of the second run
            raise KeyboardInterrupt
        return compute(self, forecaster, run, numbers)

    monkeypatch.setattr(Scorer, "single", counted)
    with pytest.raises(KeyboardInterrupt):
        score(config, make_generator(), report, Means())
    assert not report.exists()
    kept = list(tmp_path.glob(".report.json.*.partial/*"))
    kept[0].write_bytes(kept[0].read_bytes()[:50])  # as a full disk would leave it
    steps: list[str] = []
    assert score(config, make_generator(), report, Means(), steps) == evaluation
    # Two batches were not reached or not finished; a third is computed again if the one cut off was of this kind.
    assert len(calls) - 5 == 2 + kept[0].name.startswith("one-future")
    assert steps[:4] == ["truth and copy 0/5", "truth and copy 2/5", "truth and copy 4/5", "truth and copy 5/5"]
    assert not list(tmp_path.glob(".report.json.*"))


def test_one_that_was_stopped_before_its_report_is_the_same(
    config: Config, make_generator: MakeGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All batches are there, but not the motion, which takes the statistics of the last run."""

    def moving() -> Generator:
        """With warps that depend on what is normalised."""
        generator, rng = make_generator(), torch.Generator().manual_seed(0)
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        return generator

    report, expected = tmp_path / "report.json", score(config, moving(), tmp_path / "alone.json", Means())
    with monkeypatch.context() as patch:
        patch.setattr("trivd.evaluation.evaluate.motion_score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(config, moving(), report, Means())
    assert expected.motion is not None
    assert score(config, moving(), report, Means()) == expected


def test_another_model_does_not_go_on_with_kept_batches(
    config: Config, make_generator: MakeGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other() -> Generator:
        generator = make_generator()
        generator.output.bias.add_(0.5)
        return generator

    report, alone = tmp_path / "report.json", score(config, other(), tmp_path / "alone.json")
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "several", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(config, make_generator(), report)
    assert score(config, other(), report) == alone


def test_batches_that_came_with_a_model_are_not_taken(
    evaluation: Evaluation,
    config: Config,
    make_generator: MakeGenerator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, ours = tmp_path / "theirs" / "report.json", tmp_path / "ours" / "report.json"
    with monkeypatch.context() as patch:
        patch.setattr(PartialResults, "remove", lambda self: None)
        score(config, make_generator(), theirs, Means())
    for file in theirs.parent.glob(".report.json.*.partial/*"):
        save_file({name: column + 1 for name, column in load_file(file).items()}, file)
    shutil.copytree(theirs.parent, ours.parent)
    assert score(config, make_generator(), ours, Means()) == evaluation


def test_batches_with_statistics_of_another_truncation_are_not_taken(
    evaluation: Evaluation,
    config: Config,
    make_generator: MakeGenerator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as those of earlier versions, which never truncated z while they collected statistics."""
    report = tmp_path / "report.json"
    with monkeypatch.context() as patch:
        patch.setattr(PartialResults, "remove", lambda self: None)
        score(config, make_generator(), report, Means(), standing="standing statistics 2 x 2")
    for file in tmp_path.glob(".report.json.*.partial/*"):
        save_file({name: column + 1 for name, column in load_file(file).items()}, file)
    assert score(config, make_generator(), report, Means()) == evaluation


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"predicted_frames": 3', '"predicted_frames": 10000000000'),
        ('"digits": 2', '"digits": 100000000'),
        ('"ssim": {', '"speed": {'),
    ],
)
def test_a_report_of_somebody_that_lies_is_refused(report: Path, tmp_path: Path, old: str, new: str) -> None:
    text, damaged = report.read_text(), tmp_path / "report.json"
    assert old in text
    damaged.write_text(text.replace(old, new))
    with pytest.raises(TrivdError, match="is not a report of this version"):
        read_evaluation(damaged)


def test_the_file_gives_back_the_evaluation(evaluation: Evaluation, report: Path, tmp_path: Path) -> None:
    assert read_evaluation(report) == evaluation
    assert json.loads(report.read_text())["protocol_line"] == str(evaluation.protocol)
    damaged, older = tmp_path / "damaged.json", tmp_path / "older.json"
    older.write_text(report.read_text().replace('    "fps": null,\n', ""))
    assert older.stat().st_size < report.stat().st_size
    assert read_evaluation(older) == evaluation
    for text in ("", "[]", "{}", report.read_text().replace('"figures"', '"numbers"')):
        damaged.write_text(text)
        with pytest.raises(TrivdError, match=r"damaged\.json is not a report of this version"):
            read_evaluation(damaged)


def test_too_few_clips_are_refused(tiny_config: MakeConfig, make_generator: MakeGenerator, tmp_path: Path) -> None:
    with pytest.raises(TrivdError, match=r"FVD \(means\) needs at least 4 clips, but there are 3; give more"):
        score(tiny_config(evaluation={"clips": 3}), make_generator(), tmp_path / "report.json", Means())


def test_spread_is_the_unbiased_one() -> None:
    spread = Spread.of([1.0, 2.0, 6.0])
    assert (spread.mean, spread.std) == (3.0, pytest.approx(7.0**0.5))
    assert spread.text(1) == "3.0 ± 2.6"
    assert Spread.of([2.0]) == Spread(2.0, None, [2.0])
    assert Spread.of([2.0]).text(2) == "2.00"


def test_the_hash_is_that_of_the_weights(make_generator: MakeGenerator) -> None:
    first, second = make_generator(), make_generator()
    second.output_norm.standing_mean.add_(1)  # recomputed at every evaluation, so no part of it
    assert weights_hash(first) == weights_hash(second)
    second.output.bias[0] = torch.nextafter(second.output.bias[0], torch.tensor(9.0))
    assert weights_hash(first) != weights_hash(second)


def test_a_second_evaluation_of_the_same_clips_computes_no_feature(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIVD_HOME", str(tmp_path / "library"))

    class Counted(Means):
        fingerprint = "counted"
        seen = 0

        def __call__(self, video: torch.Tensor) -> Features:
            self.seen += len(video)
            return super().__call__(video)

    seen, evaluations = [], []
    for number, megabytes in enumerate((1, 1, 0)):
        config, network = tiny_config(evaluation={"feature_cache": megabytes}), Counted()
        held_out = HeldOut(splits(config)[1], DATA, 1)
        report = tmp_path / f"{number}.json"
        subject = copy_subject(config.model.conditioning_frames)
        evaluations.append(evaluate(subject, held_out, config.evaluation, network, device=CPU, report=report))
        seen.append(network.seen)
    clips = tiny_config().evaluation.clips
    assert seen == [2 * clips, 0, 3 * clips]  # truth, copies, and the copies again as the subject
    assert evaluations[0] == evaluations[1] == evaluations[2]
