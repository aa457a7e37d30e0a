"""trivd: predict the future of a video with TrIVD-GAN-FP (Luc et al. 2020)."""

import os

# Threads that spin while they wait starve the loader's processes on small machines; read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from trivd.errors import TrivdError
from trivd.predict import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "TrivdError", "load"]

load = Predictor.from_pretrained
