"""One run of a grid, trained and scored, with all that its figures depend on in one JSON file; repeated, it goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measuring import circumstances
from research.grids import Cell, Grid, file_name
from trivd.config import Config, EvaluationConfig, changes_from_defaults, from_dict, override, to_dict
from trivd.data.clips import MOVING_DIGITS
from trivd.evaluation.evaluate import evaluate_model
from trivd.evaluation.outcome import Evaluation, read_evaluation
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
        name: of the grid.
        grid: with its evaluations.
        cell: of the grid.
        seed: of the training.
        steps: None for the preset's.
        data: to train on.
    """

    name: str
    grid: Grid
    cell: Cell
    seed: int
    steps: int | None
    data: str

    @property
    def config(self) -> Config:
        """Of the training."""
        return self.grid.config(self.cell, self.seed, self.steps)

    def run(self, folder: Path) -> Run:
        """Where it trains, below `folder`: the same settings and data lie in the same place, whatever the grid."""
        config = self.config
        key = _key({"config": changes_from_defaults(config), "data": self.data})
        return Run(folder / f"{config.model.unit}-{config.discriminator.decomposition}-seed{self.seed}-{key}")

    def result(self, folder: Path) -> Path:
        """Its JSON file, below `folder`."""
        return folder / self.name / f"{file_name(self.cell.label)}-seed{self.seed}.json"

    def picture(self, folder: Path) -> Path:
        """Futures and motion of a held-out clip, below `folder`: of the first seed, on the data that trivd may show."""
        return self.result(folder).with_suffix(".png")

    def is_done(self, results: Path) -> bool:
        """Whether its result is there.

        Raises:
            TrivdError: another result is there in its place.
        """
        file = self.result(results)
        if not file.is_file():
            return False
        found = read_result(file)
        if from_dict(Config, found["config"], str(file)) != self.config or found["data"] != Path(self.data).name:
            raise TrivdError(f"{file} is of other settings; choose another --results, or move it away.")
        return True


def read_result(file: Path) -> dict[str, Any]:
    """What `run_task` has written.

    Raises:
        TrivdError: the file holds something else.
    """
    try:
        values: dict[str, Any] = json.loads(file.read_text())
        _ = values["config"], values["data"], values["evaluations"], values["scores"], values["losses"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrivdError(f"{file} is not the result of a run; move it away, or choose another --results.") from error
    return values


def run_task(task: Task, runs: Path, results: Path, console: Console) -> bool:
    """Train, score and write the result.

    Args:
        task: what to do.
        runs: folder of the trainings.
        results: folder of the JSON files.
        console: for what is said on the way.

    Returns:
        whether it is done; False after a signal to stop, when all is saved.

    Raises:
        TrivdError: training or evaluation cannot be done.
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
    """Scores of the last model; what was computed for another grid is taken over."""
    settings: EvaluationConfig = override(task.config, {"evaluation": dict(changes)}, "grid").evaluation
    report = run.folder / f"evaluation-{_key(asdict(settings))}.json"
    if report.is_file():
        return read_evaluation(report)
    say(console, f"Scoring {run.last}.")
    return evaluate_model(
        predictor.generator,
        predictor.history,
        predictor.dtype,
        task.data,
        Path(task.data).name,
        task.config,
        "validation",
        settings,
        choose_device(task.config.training.device, "training.device"),
        report,
    )


def _key(values: Mapping[str, Any]) -> str:
    return json_digest(values)[:KEY_LENGTH]
