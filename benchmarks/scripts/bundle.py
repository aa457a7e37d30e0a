"""A run made a bundled model: its weights, their history, its scores and its card.

    trivd evaluate RUN --clips 2048 --best-of-clips 128 --samples 10
    python -m benchmarks.scripts.bundle RUN --name NAME --hardware "what it was trained on" --date YYYY-MM-DD

The second command writes trivd/models/bundled/NAME; once more, it changes nothing. In the card, README.md, it replaces
the blocks between markers alone: what the samples look like is for somebody to see and to write.
"""

from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from benchmarks.scripts.card import NEW_CARD, figures_block, model_block
from trivd.data.clips import MOVING_DIGITS
from trivd.data.datasets.robot_pushing import ROBOT_PUSHING
from trivd.data.store.index import PLAN
from trivd.evaluation.outcome import REPORT_FILE, Evaluation, read_evaluation
from trivd.models.pretrained import BUNDLED, LARGEST_CONFIG, find_model, load_generator, save_generator, weights_hash
from trivd.pictures.markdown import fill, read_document
from trivd.runtime.console import say
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import read_json, write_atomically

MOST_BYTES = 30_000_000  # of the weights, which each installation downloads
CARD = "README.md"
TOLD = ("hardware", "date")  # what a run does not know of itself


def main(
    model: tyro.conf.Positional[str],
    *,
    name: str,
    report: Path | None = None,
    hardware: str | None = None,
    date: str | None = None,
    store: Path | None = None,
    into: Path = BUNDLED,
) -> None:
    """Bundle a model.

    Args:
        model: a run's or model's folder, or a bundled model, whose files are then brought up to date.
        name: by which it will be found.
        report: of `trivd evaluate`; report.json in MODEL's folder if not given.
        hardware: that it was trained on; what the model's history says if not given, as the following.
        date: of the training, as 2026-11-27.
        store: of the clips that it was trained on, unless they are moving-digits; where the run names it if not given.
        into: folder of the bundled models.

    Raises:
        TrivdError: the weights are too large, the report is of other weights, or something is not known.
    """
    source = find_model(model)
    generator, history = load_generator(source, torch.device("cpu"))
    size = sum(tensor.nbytes for tensor in generator.state_dict().values())
    if size > MOST_BYTES:
        raise TrivdError(
            f"The weights of {model} take {size / 1e6:.1f} MB; a bundled model may have {MOST_BYTES / 1e6:.0f} MB, so "
            "train one with fewer channels."
        )
    digest = weights_hash(generator)[:12]
    scores = report or (Path(model) if Path(model).is_dir() else source) / REPORT_FILE
    evaluation = _read_report(scores, digest, model)
    history |= _told(history, {"hardware": hardware, "date": date}) | _origin(history, store)

    folder = into / name
    card = folder / CARD
    text = read_document(card) if card.exists() else NEW_CARD.format(name=name)
    seen = digest in text
    text = fill(text, "model", model_block(name, generator, history, digest), card)
    text = fill(text, "figures", figures_block(name, history, evaluation), card)
    save_generator(generator, folder, history)
    write_atomically(folder / REPORT_FILE, scores.read_bytes())
    write_atomically(card, text.encode())
    console = Console()
    say(console, f"Written: {folder}")
    if not seen:
        say(console, f"These weights are new: look at their samples, and say in {card} what they look like.")


def _read_report(path: Path, digest: str, model: str) -> Evaluation:
    """The model's scores.

    Raises:
        TrivdError: there are none, or they are of other weights.
    """
    if not path.is_file():
        raise TrivdError(f"There is no {path}; run `trivd evaluate {model}`, or name a report by --report.")
    evaluation = read_evaluation(path)
    if digest not in evaluation.protocol.subject:
        raise TrivdError(f"{path} is of other weights than {model} ({digest}); run `trivd evaluate {model}` again.")
    return evaluation


def _told(history: dict[str, Any], given: dict[str, str | None]) -> dict[str, str]:
    """What somebody has to tell, now or when the model was first bundled.

    Raises:
        TrivdError: nobody has.
    """
    told: dict[str, str] = {}
    for name in TOLD:
        value = given[name] or history.get(name)
        if value is None:
            raise TrivdError(f"The model's history does not say its {name}; give --{name}.")
        told[name] = value
    return told


def _origin(history: dict[str, Any], store: Path | None) -> dict[str, str]:
    """The data's name, and the command that makes them unless they come with trivd.

    Raises:
        TrivdError: they are no data that anybody can make, or their store is not there.
    """
    data = history["data"]
    if data == MOVING_DIGITS or "recipe" in history:
        return {}
    plan_file = (store or Path(data)) / PLAN
    if not plan_file.is_file():
        raise TrivdError(f"There is no {plan_file}, which says how the clips were made; name their store by --store.")
    plan = read_json(plan_file, LARGEST_CONFIG)
    if plan["source"] != ROBOT_PUSHING:
        raise TrivdError(f"{plan_file} is not of {ROBOT_PUSHING}; bundle models of data that anybody can make.")
    clips = plan["clips"]
    recipe = (
        f"trivd prepare {ROBOT_PUSHING} STORE --clips {clips['train']} --validation-clips {clips['validation']} "
        f"--test-clips {clips['test']} --seed {plan['seed']} --resolution {plan['resolution']}"
    )
    return {"data": ROBOT_PUSHING, "recipe": recipe}


if __name__ == "__main__":
    tyro.cli(main)
