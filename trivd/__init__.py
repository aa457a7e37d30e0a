"""trivd: predict the future of a video with TrIVD-GAN-FP (Luc et al. 2020)."""

from trivd.errors import TrivdError
from trivd.predict import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "TrivdError", "load"]

load = Predictor.from_pretrained
