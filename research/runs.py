"""One run of a comparison: trained, scored, and written to a JSON file with all that its figures depend on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.measuring import circumstances
from research.comparison import Cell, Comparison, DataSet
from research.pace import logged_pace
from research.records import find_run, run_file
from trivd.commands.evaluate import progress_shown
from trivd.config import Changes, Config, changes_from_defaults, from_dict, override, to_dict
from trivd.config.upgrade import VERSION, upgrade
from trivd.data.clips import MOVING_DIGITS
from trivd.data.splits import Split
from trivd.evaluation.evaluate import evaluate_model
from trivd.evaluation.outcome import Evaluation, read_evaluation
from trivd.evaluation.protocols import scored_name, with_protocol
from trivd.evaluation.subjects import TrainedModel
from trivd.models.pretrained import weights_hash
from trivd.pictures.draw import encode_png
from trivd.prediction.examples import draw_example
from trivd.prediction.predictor import Predictor
from trivd.runtime.console import say
from trivd.runtime.distributed import barrier, broadcast_from_rank_0, rank, world_size
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import json_digest, write_atomically
from trivd.runtime.hardware import choose_device
from trivd.training.loop import open_splits, train
from trivd.training.run import Run
from trivd.training.stops import interrupted_by_signals

KEY_LENGTH = 10
PICTURED = 0  # held-out clip
SCORED_SECTIONS = ("data", "evaluation")  # of the user's settings, which win over a protocol's


@dataclass(frozen=True)
class Task:
    """A cell trained with one seed.

    Args:
        comparison: what it belongs to.
        cell: the setting that is trained.
        seed: seed of the training.
        steps: training steps; None takes the preset's.
        paths: where the data sets are.
        settings: settings of the user, which win over all others.
    """

    comparison: Comparison
    cell: Cell
    seed: int
    steps: int | None
    paths: Mapping[DataSet, str]
    settings: Changes

    @property
    def config(self) -> Config:
        """The configuration of the training."""
        return self.cell.config(self.seed, self.steps, self.settings)

    @property
    def data(self) -> str:
        """The data to train on."""
        return self.paths[self.cell.data]

    def scored(self, name: str) -> tuple[Config, Split | None, str]:
        """The settings of an evaluation, the split that counts (None: the held-out one), and the data.

        Raises:
            TrivdError: the model predicts other clips than the protocol is about.
        """
        scoring, config = self.cell.scorings[name], self.config
        split: Split | None = None
        if scoring.protocol is not None:
            config, split = with_protocol(config, scoring.protocol, config.model)
        config = override(config, {"evaluation": scoring.settings}, f"cell {self.cell.label}")
        own = {section: self.settings[section] for section in SCORED_SECTIONS if section in self.settings}
        return override(config, own, "--set"), split, self.paths[scoring.data or self.cell.data]

    def run(self, folder: Path) -> Run:
        """The folder below `folder` in which it trains; equal settings and data share one, whatever the comparison."""
        config = self.config
        key = _key({"config": changes_from_defaults(config), "data": self.data})
        return Run(folder / f"{config.model.unit}-{config.discriminator.decomposition}-seed{self.seed}-{key}")

    def model(self, folder: Path) -> Path:
        """The model below `folder` that is scored."""
        run = self.run(folder)
        return run.best if self.comparison.model == "best" else run.last

    def result(self, folder: Path) -> Path:
        """The JSON file below `folder` that it writes."""
        return run_file(folder, self.comparison.records, self.cell.label, self.seed)

    def picture(self, folder: Path) -> Path:
        """The picture below `folder` of futures and motion of a held-out clip.

        It is drawn for the first seed only, and only of data that trivd may show.
        """
        return self.result(folder).with_suffix(".png")

    def is_done(self, results: Path) -> bool:
        """Whether its result is there, in a file of its own or among those collected.

        Raises:
            TrivdError: another result is there in its place.
        """
        found = find_run(results, self.comparison.records, self.cell.label, self.seed)
        if found is None:
            return False
        file, values = found
        config = upgrade(values["config"], values.get("version", 1))
        if from_dict(Config, config, str(file)) != self.config or values["data"] != Path(self.data).name:
            raise TrivdError(f"{file} is of other settings; choose another --results, or move it away.")
        return True


def run_task(task: Task, runs: Path, results: Path, console: Console) -> bool:
    """Train, score and write the result; repeated after a stop, it resumes.

    Processes that torchrun started share the run; rank 0 writes.

    Args:
        task: what to do.
        runs: folder of the trainings.
        results: folder of the JSON files.
        console: where progress is printed.

    Returns:
        whether the task is done; False after a signal to stop the training, when everything is saved.

    Raises:
        TrivdError: training or evaluation is impossible.
        KeyboardInterrupt: a signal to stop has come during an evaluation, whose finished batches are kept.
    """
    if broadcast_from_rank_0(task.is_done(results)):
        return True
    run, config = task.run(runs), task.config
    device = choose_device(config.training.device, "training.device")
    measured = device.type == "cuda" and not run.last.is_dir()
    if measured:
        torch.cuda.reset_peak_memory_stats(device)
    if not train(config, task.data, run, console):
        return False
    peak = torch.cuda.max_memory_allocated(device) if measured else None
    with interrupted_by_signals():
        predictor = Predictor.from_pretrained(task.model(runs), config.training.device)
        evaluations = {name: asdict(_evaluate(task, name, run, predictor, console)) for name in task.cell.scorings}
    if rank() == 0:
        _write(task, run, predictor, evaluations, results=results, peak_bytes=peak)
    barrier()
    return True


def _write(
    task: Task, run: Run, predictor: Predictor, evaluations: Mapping[str, Any], *, results: Path, peak_bytes: int | None
) -> None:
    """Write the result, and a picture of a held-out clip where there is one."""
    config, rows = task.config, run.log_rows()
    pace = logged_pace(rows, config, peak_bytes)
    values = {
        "grid": task.comparison.records,
        "cell": task.cell.label,
        "seed": task.seed,
        "data": Path(task.data).name,
        "steps": rows[-1]["step"],  # fewer than the settings have where time ends the training
        "seconds": predictor.history["seconds"],
        "pace": None if pace is None else asdict(pace),
        "processes": world_size(),
        "weights": weights_hash(predictor.generator),
        **circumstances(predictor.device),
        "version": VERSION,
        "config": to_dict(config),
        "set": task.settings,
        "evaluations": evaluations,
        "scores": [row for row in rows if any(name.startswith("score/") for name in row)],
        "losses": [row for row in rows if any(name.startswith("loss/") for name in row)],
    }
    if task.seed == 0 and task.data == MOVING_DIGITS:
        held_out = open_splits(config, task.data)["validation"]
        write_atomically(task.picture(results), encode_png(draw_example(predictor, held_out, PICTURED).picture()))
    write_atomically(task.result(results), (json.dumps(values, indent=1) + "\n").encode())


def _evaluate(task: Task, name: str, run: Run, predictor: Predictor, console: Console) -> Evaluation:
    """Scores of the model; an evaluation that another comparison has computed already is reused."""
    config, split, data = task.scored(name)
    model = task.model(run.folder.parent)
    key = {"data": [data, asdict(config.data)], "split": split, "model": model.name}
    report = run.folder / f"evaluation-{_key(asdict(config.evaluation) | key)}.json"
    if broadcast_from_rank_0(report.is_file()):
        return read_evaluation(report)
    say(console, f"Scoring {model}.")
    with progress_shown(console) as progress:
        return evaluate_model(
            TrainedModel(predictor.generator, predictor.history, predictor.dtype),
            config,
            data,
            name=scored_name(data, config.data, task.cell.scorings[name].protocol),
            split=split,
            device=predictor.device,
            report=report,
            progress=progress,
        )


def _key(values: Mapping[str, Any]) -> str:
    return json_digest(values)[:KEY_LENGTH]
