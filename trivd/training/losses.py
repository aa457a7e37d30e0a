"""The losses of appendix E: geometric hinge, orthogonality, and the optional reconstruction regulariser."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.layers import ClassEmbedding, SpectralNorm, full_precision


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Eq 13: mean over all outputs of relu(1 + D(G(z))) + relu(1 - D(x))."""
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Eq 14: minus the mean of all outputs."""
    return -fake.mean()


def orthogonality_penalty(module: nn.Module) -> Tensor:
    """Sum over weights W (as matrices of one row per output) of |W W^T, off the diagonal|^2 (E.2; Brock et al. 2019).

    It covers every linear and convolution with spectral norm and the first affine, but not the class embedding, whose
    rows are not meant to be orthogonal. Returns a scalar.
    """
    penalty = torch.zeros((), device=next(module.parameters()).device)
    with full_precision(penalty):
        for layer in module.modules():
            if isinstance(layer, (SpectralNorm, nn.Linear)) and not isinstance(layer, ClassEmbedding):
                weight = layer.weight.flatten(1)
                # |W W^T| = |W^T W|, of which the smaller is formed; the diagonal of W W^T holds the rows' norms.
                gram = weight @ weight.mT if len(weight) <= weight.shape[1] else weight.mT @ weight
                norms = (weight * weight).sum(dim=1)
                penalty = penalty + (gram * gram).sum() - (norms * norms).sum()
    return penalty


def reconstruction_l1(samples: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference between the truth and the mean of n samples, as DGMR's grid-cell regulariser.

    Args:
        samples: (n, B, T, C, H, W).
        truth: (B, T, C, H, W).
    """
    return (samples.mean(dim=0) - truth).abs().mean()
