"""trivd: predict the future of a video with TrIVD-GAN-FP (Luc et al. 2020)."""

import importlib
from types import ModuleType

from trivd.data.dataset import clips
from trivd.evaluation.bundled import list_models
from trivd.evaluation.in_python import evaluate_predictions
from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError

__version__ = "0.1.0"
__all__ = ["Predictor", "TrivdError", "clips", "evaluate", "list_models", "load"]

evaluate = evaluate_predictions
load = Predictor.from_pretrained


def __getattr__(name: str) -> ModuleType:
    """`trivd.metrics`, imported at its first use: it needs the extra torchmetrics."""
    if name == "metrics":
        return importlib.import_module("trivd.metrics")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
