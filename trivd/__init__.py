"""trivd: predict the future of a video with TrIVD-GAN-FP (Luc et al. 2020)."""

from trivd.prediction.predictor import Predictor
from trivd.runtime.errors import TrivdError

__version__ = "0.1.0"
__all__ = ["Predictor", "TrivdError", "load"]

load = Predictor.from_pretrained
