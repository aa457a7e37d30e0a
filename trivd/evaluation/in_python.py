"""`trivd.evaluate`: the evaluation of predictions in memory, with the figures of the command."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from trivd.config import EvaluationConfig, I3DInput
from trivd.evaluation.evaluate import HeldOut, evaluate
from trivd.evaluation.networks.choice import choose_network
from trivd.evaluation.outcome import Evaluation, check_report
from trivd.evaluation.predictions.arrays import Array, ArrayPredictions, ValueRange
from trivd.evaluation.predictions.paired import BEST_OF, paired_subject
from trivd.evaluation.predictions.subject import PredictionFiles
from trivd.evaluation.subjects import Progress, Subject
from trivd.runtime.distributed import broadcast_from_rank_0, rank
from trivd.runtime.errors import TrivdError
from trivd.runtime.hardware import choose_device

Source = Array | str | os.PathLike[str]


def evaluate_predictions(
    predictions: Source,
    truth: Source,
    *,
    conditioning_frames: int,
    value_range: ValueRange | None = None,
    features: Literal["auto", "i3d", "moving-digits", "none"] = EvaluationConfig.features,
    i3d_weights: str | None = EvaluationConfig.i3d_weights,
    i3d_input: I3DInput = EvaluationConfig.i3d_input,
    lpips: Literal["auto", "alex", "vgg", "none"] = EvaluationConfig.lpips,
    count_conditioning: bool = EvaluationConfig.count_conditioning,
    feature_cache: int = EvaluationConfig.feature_cache,
    batch_size: int = EvaluationConfig.batch_size,
    device: str = "auto",
    report: str | os.PathLike[str] | None = None,
    progress: Progress = lambda part, done, total: None,
) -> Evaluation:
    """Score predictions of any model against the truth and against copies of the last given frame.

    Videos are arrays or tensors (N, T, H, W, C) or (N, T, C, H, W), C = 1 or 3, of at least 11 x 11 pixels: uint8 from
    0 to 255, or floats, whose `value_range` has to be said; or both are folders, as for `trivd evaluate --predictions`.
    True floats are rounded to 8 bits, predicted ones for features alone, as those of a model.

    Args:
        predictions: a video of each true one; or several samples of each, (N, S, T, ...). They have the truth's frames,
            of which the given ones are taken from the truth, or only those after them.
        truth: true videos, in the same order, given frames included.
        conditioning_frames: how many of the true frames were given, 1 at least.
        value_range: the values of black and white in floats: (-1, 1), (0, 1) or (0, 255).
        features: network of the Fréchet distance and inception score; see `trivd.config.EvaluationConfig`, as for the
            following five.
        i3d_weights: file of weights.
        i3d_input: how frames become I3D's input.
        lpips: backbone of LPIPS.
        count_conditioning: whether the given frames count in the Fréchet distance.
        feature_cache: megabytes of features kept for later evaluations.
        batch_size: clips scored at once.
        device: "auto", "cpu" or "cuda".
        report: JSON file to write; None writes none.
        progress: called before the first and after each batch, with the part, and the clips done and to do.

    Returns:
        The figures, their protocol, and curves by frame.

    Raises:
        TrivdError: shapes, types, values or files do not fit, there are too few clips for the network (4 at least), or
            the report cannot be written or would take the place of something else.
    """
    if conditioning_frames < 1:
        raise TrivdError(f"conditioning_frames is {conditioning_frames}; it must be at least 1.")
    if report is not None:
        check_report(Path(report))
    subject, held_out, samples = _opened(predictions, truth, conditioning_frames, value_range)
    count = held_out.clips.evaluation_clips
    settings = EvaluationConfig(
        clips=count,
        best_of_clips=count,
        samples=samples,
        batch_size=batch_size,
        features=features,
        i3d_weights=i3d_weights,
        i3d_input=i3d_input,
        lpips=lpips,
        count_conditioning=count_conditioning,
        feature_cache=feature_cache,
    )
    place = choose_device(device, "device")
    network = choose_network(settings, held_out.clips, place)
    with ExitStack() as stack:
        # Batches are kept for the processes that share the work; arrays may have changed when the call is repeated.
        own = stack.enter_context(tempfile.TemporaryDirectory()) if rank() == 0 else ""
        file = Path(broadcast_from_rank_0(own)) / "report.json"
        evaluation = evaluate(subject, held_out, settings, network, device=place, report=file, progress=progress)
    if report is not None and rank() == 0:
        evaluation.save(Path(report))
    return evaluation


def _opened(
    predictions: Source, truth: Source, given: int, value_range: ValueRange | None
) -> tuple[Subject, HeldOut, int]:
    """The predictions as subject, the truth as clips, and the number of samples."""
    if isinstance(predictions, str | os.PathLike) and isinstance(truth, str | os.PathLike):
        files = PredictionFiles(Path(predictions), Path(truth), given)
        return paired_subject(files), HeldOut(files, str(truth), 1), files.samples
    if isinstance(predictions, str | os.PathLike) or isinstance(truth, str | os.PathLike):
        raise TrivdError("Predictions and truth must both be folders, or both arrays.")
    arrays = ArrayPredictions(predictions, truth, given, value_range)
    subject = Subject(arrays, "predictions in memory", given, best_of=BEST_OF, intervals=True)
    return subject, HeldOut(arrays, "clips in memory", 1), arrays.samples
