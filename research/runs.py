"""One run of a grid: trained, scored, and written to a JSON file with all that its figures depend on; it can resume."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measuring import circumstances
from research.grids import Cell, Grid
from research.records import find_run, run_file
from trivd.config import Config, changes_from_defaults, from_dict, override, to_dict
from trivd.config.upgrade import VERSION, upgrade
from trivd.data.clips import MOVING_DIGITS
from trivd.evaluation.evaluate import evaluate_model
from trivd.evaluation.outcome import Evaluation, read_evaluation
from trivd.evaluation.subjects import TrainedModel
from trivd.models.pretrained import weights_hash
from trivd.pictures.draw import encode_png
from trivd.prediction.examples import draw_example
from trivd.prediction.predictor import Predictor
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import json_digest, write_atomically
from trivd.runtime.hardware import choose_device
from trivd.training.loop import open_splits, train
from trivd.training.run import Run

KEY_LENGTH = 10
PICTURED = 0  # held-out clip


@dataclass(frozen=True)
class Task:
    """A cell trained with one seed.

    Args:
        name: the grid's name.
        grid: the comparison, with the evaluations of each of its runs.
        cell: the setting that is trained.
        seed: seed of the training.
        steps: training steps; None takes the preset's.
        data: data set to train on.
    """

    name: str
    grid: Grid
    cell: Cell
    seed: int
    steps: int | None
    data: str

    @property
    def config(self) -> Config:
        """The configuration of the training."""
        return self.grid.config(self.cell, self.seed, self.steps)

    def run(self, folder: Path) -> Run:
        """The folder below `folder` in which it trains; equal settings and data share one, whatever the grid."""
        config = self.config
        key = _key({"config": changes_from_defaults(config), "data": self.data})
        return Run(folder / f"{config.model.unit}-{config.discriminator.decomposition}-seed{self.seed}-{key}")

    def result(self, folder: Path) -> Path:
        """The JSON file below `folder` that it writes."""
        return run_file(folder, self.name, self.cell.label, self.seed)

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
        found = find_run(results, self.name, self.cell.label, self.seed)
        if found is None:
            return False
        file, values = found
        config = upgrade(values["config"], values.get("version", 1))
        if from_dict(Config, config, str(file)) != self.config or values["data"] != Path(self.data).name:
            raise TrivdError(f"{file} is of other settings; choose another --results, or move it away.")
        return True


def run_task(task: Task, runs: Path, results: Path, console: Console) -> bool:
    """Train, score and write the result; repeated after a stop, it resumes.

    Args:
        task: what to do.
        runs: folder of the trainings.
        results: folder of the JSON files.
        console: where progress is printed.

    Returns:
        whether the task is done; False after a signal to stop, when everything is saved.

    Raises:
        TrivdError: training or evaluation is impossible.
    """
    if task.is_done(results):
        return True
    run, config = task.run(runs), task.config
    if not train(config, task.data, run, console):
        return False
    predictor = Predictor.from_pretrained(run.last, config.training.device)
    evaluations = {
        name: asdict(_evaluate(task, run, predictor, changes, console))
        for name, changes in task.grid.evaluations.items()
    }
    rows = run.log_rows()
    values = {
        "grid": task.name,
        "cell": task.cell.label,
        "seed": task.seed,
        "data": Path(task.data).name,
        "steps": config.training.steps,
        "seconds": predictor.history["seconds"],
        "weights": weights_hash(predictor.generator),
        **circumstances(predictor.device),
        "version": VERSION,
        "config": to_dict(config),
        "evaluations": evaluations,
        "scores": [row for row in rows if any(name.startswith("score/") for name in row)],
        "losses": [row for row in rows if any(name.startswith("loss/") for name in row)],
    }
    if task.seed == 0 and task.data == MOVING_DIGITS:
        held_out = open_splits(config, task.data)["validation"]
        write_atomically(task.picture(results), encode_png(draw_example(predictor, held_out, PICTURED).picture()))
    write_atomically(task.result(results), (json.dumps(values, indent=1) + "\n").encode())
    return True


def _evaluate(task: Task, run: Run, predictor: Predictor, changes: Mapping[str, Any], console: Console) -> Evaluation:
    """Scores of the last model; an evaluation that another grid has computed already is reused."""
    config = override(task.config, {"evaluation": dict(changes)}, "grid")
    report = run.folder / f"evaluation-{_key(asdict(config.evaluation))}.json"
    if report.is_file():
        return read_evaluation(report)
    say(console, f"Scoring {run.last}.")
    return evaluate_model(
        TrainedModel(predictor.generator, predictor.history, predictor.dtype),
        config,
        task.data,
        name=Path(task.data).name,
        split=None,
        device=choose_device(config.training.device, "training.device"),
        report=report,
    )


def _key(values: Mapping[str, Any]) -> str:
    return json_digest(values)[:KEY_LENGTH]
