"""The interface of networks in whose feature space sets of videos are compared."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trivd.runtime.errors import TrivdError


class Features(NamedTuple):
    """Outputs of a network for a batch of clips, float32."""

    embedding: Tensor  # (B, D), which the Fréchet distance compares
    logits: Tensor  # (B, K), class scores for the inception score


class FeatureNetwork(Protocol):
    """A trained network, ready to use."""

    distance: str  # name of the Fréchet distance between its embeddings: "FVD", "FVD (moving-digits)", ...
    inception: str  # name of the inception score of its logits
    about: str  # the network and its weights, for the protocol line
    shortest: int  # frames of the shortest clip it takes
    fingerprint: str  # tells it and its weights from any other; "": unknown, so its features are not kept

    def __call__(self, video: Tensor) -> Features:
        """Features of clips (B, T, H, W, C) of uint8, C = 1 or 3.

        Raises:
            TrivdError: the clips are not uint8, or too short.
        """
        ...


def check_clips(video: Tensor, shortest: int) -> None:
    """Refuse clips that would silently give a wrong number.

    Args:
        video: clips, (B, T, H, W, C) of uint8.
        shortest: frames that the network needs.

    Raises:
        TrivdError: another type, shape or range, or too few frames.
    """
    if video.dtype != torch.uint8:
        raise TrivdError(
            f"Feature networks take uint8 frames from 0 to 255, not {str(video.dtype).removeprefix('torch.')}; "
            "convert frames in [-1, 1] with trivd.runtime.pixels.to_uint8."
        )
    if video.dim() != 5 or video.shape[-1] not in (1, 3):
        raise TrivdError(f"Clips must be (B, T, H, W, 1 or 3), not {tuple(video.shape)}.")
    if video.shape[1] < shortest:
        raise TrivdError(
            f"Clips have {video.shape[1]} frames, but the feature network needs at least {shortest}; take longer "
            "clips, or set evaluation.features to none."
        )
