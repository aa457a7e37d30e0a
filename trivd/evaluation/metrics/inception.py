"""Inception score: how sure a classifier is of each clip, and how many classes clips cover (Salimans et al. 2016)."""

import math

import torch
from torch import Tensor

from trivd.runtime.errors import TrivdError


def inception_score(logits: Tensor, splits: int) -> tuple[float, float | None]:
    """exp(mean KL(p(y|x) || p(y))), in float64; 1 at least, the number of classes at most.

    Args:
        logits: class scores of clips (N, K). Splits are contiguous, so clips must not be sorted by class or video.
        splits: parts of nearly equal size that are scored apart.

    Returns:
        Mean over the splits, and their unbiased standard deviation: None for a single split.

    Raises:
        TrivdError: the shape is another, values are not finite, or there are more splits than clips.
    """
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise TrivdError(f"Logits must be (N, K), not {tuple(logits.shape)}.")
    if not logits.isfinite().all():
        raise TrivdError(
            "Logits hold NaN or infinity, so they have no inception score; check what the network was given."
        )
    if not 1 <= splits <= len(logits):
        raise TrivdError(
            f"{len(logits)} clips cannot be scored in {splits} splits; choose from 1 to as many splits as clips."
        )
    log_p = logits.detach().to("cpu", torch.float64).log_softmax(dim=1)
    scores = torch.stack([_score(part) for part in log_p.tensor_split(splits)])
    return float(scores.mean()), float(scores.std(correction=1)) if splits > 1 else None


def _score(log_p: Tensor) -> Tensor:
    """Inception score of clips with class log-probabilities (n, K)."""
    log_marginal = log_p.logsumexp(dim=0) - math.log(len(log_p))  # not log(mean(p)): 0 x infinity where p underflows
    return (log_p.exp() * (log_p - log_marginal)).sum(dim=1).mean().exp()
