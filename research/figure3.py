"""Figure 3 of a comparison: predictions with their motion fields on test clips of UCF-101."""

from collections.abc import Sequence
from pathlib import Path

from research.runs import Task
from trivd.data.clips import ClipDataset, open_clips
from trivd.data.loader import evaluation_numbers
from trivd.evaluation.protocols import with_protocol
from trivd.models.pretrained import weights_hash
from trivd.pictures.draw import encode_png
from trivd.prediction.figure3 import figure3
from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically

CLIPS = 6  # spread evenly over the test list, if the user names none


def open_test_clips(task: Task) -> ClipDataset:
    """The clips of UCF-101's test list 1 as the protocol of C.2 cuts them.

    Raises:
        TrivdError: there are none.
    """
    config, split = with_protocol(task.config, "ucf101", task.config.model)
    return open_clips(task.paths["ucf101"], split, config.data, config.model)


def check_clips(task: Task, clips: Sequence[int]) -> None:
    """Refuse numbers of clips that UCF-101 does not have.

    Raises:
        TrivdError: a number is too large or negative.
    """
    count = open_test_clips(task).evaluation_clips
    wrong = [number for number in clips if not 0 <= number < count]
    if wrong:
        raise TrivdError(f"--clips names {wrong[0]}, but UCF-101's test list has clips 0 to {count - 1} here.")


def draw_figure3(task: Task, clips: Sequence[int], runs: Path, file: Path) -> str:
    """Draw the predictions of the task's model, and return a sentence about what is shown.

    Args:
        task: whose training is done.
        clips: numbers of test clips; if empty, some that are spread evenly.
        runs: folder of the trainings.
        file: PNG to write.
    """
    held_out = open_test_clips(task)
    numbers = list(clips or evaluation_numbers(held_out, CLIPS))
    found = [held_out.evaluation_clip(number) for number in numbers]
    predictor = Predictor.from_pretrained(task.model(runs), task.config.training.device)
    labels = [clip.label if predictor.config.classes else 0 for clip in found]
    picture = figure3(predictor, [clip.video for clip in found], labels=labels)
    write_atomically(file, encode_png(picture))
    return (
        f"Clips {', '.join(map(str, numbers))} of UCF-101's test list 1, from the top; every other frame, without "
        f"truncation; weights {weights_hash(predictor.generator)[:12]} after {predictor.history['step']} steps."
    )
