"""The losses of appendix E: geometric hinge, orthogonality, and the optional reconstruction regulariser."""

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.discriminators import Head, Scores, own_outputs
from trivd.models.layers import ClassEmbedding
from trivd.models.spectral_norm import SpectralNorm
from trivd.ops.cuda.library import twice_differentiable
from trivd.ops.orthogonality import off_diagonal_penalty
from trivd.ops.precision import full_precision


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Eq 13: mean over all outputs of relu(1 + D(G(z))) + relu(1 - D(x))."""
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """Eq 14: minus the mean of all outputs."""
    return -fake.mean()


def orthogonality_penalty(module: nn.Module, dtype: torch.dtype | None = None) -> Tensor:
    """Sum over weights W (as matrices of one row per output) of |W W^T, off the diagonal|^2 (E.2; Brock et al. 2019).

    It covers every linear and convolution with spectral norm and the first affine, but not the class embedding, whose
    rows are not meant to be orthogonal.

    Args:
        module: the network, G with E.
        dtype: of the product W W^T, which for wide layers takes as long as the discriminators' convolutions; its
            squares are summed in the weights' type. None: the weights' type.

    Returns:
        a scalar.
    """
    weights = [
        layer.weight
        for layer in module.modules()
        if isinstance(layer, (SpectralNorm, nn.Linear)) and not isinstance(layer, ClassEmbedding)
    ]
    with full_precision(weights[0]):
        return off_diagonal_penalty(weights, dtype or weights[0].dtype)


def gradient_penalty(
    discriminator: Callable[[Tensor, Tensor], Scores], seen: Tensor, labels: Tensor, head: Head
) -> Tensor:
    """R1 without its weight gamma / 2: the mean over clips of |d D(x) / d x|^2 (Mescheder et al. 2018).

    Computed in the type of `seen`, whatever autocast would have.

    Args:
        discriminator: one whose scores of a clip depend on that clip alone.
        seen: what it sees of real clips, (B, K, C, H, W).
        labels: their classes, (B,).
        head: how its scores are combined.

    Returns:
        a scalar, differentiable with respect to the discriminator's parameters.
    """
    x = seen.detach().requires_grad_()
    with full_precision(x), twice_differentiable():
        outputs = own_outputs(discriminator(x.view_as(x), labels), head)  # FlopCounterMode's hooks refuse leaves
        (gradient,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


def reconstruction_l1(samples: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference between the truth and the mean of n samples, as DGMR's grid-cell regulariser.

    Args:
        samples: (n, B, T, C, H, W).
        truth: (B, T, C, H, W).
    """
    return (samples.mean(dim=0) - truth).abs().mean()


def diversity(samples: Tensor, z: Tensor) -> Tensor:
    """Mean over clips and pairs of their samples of |G(z1) - G(z2)| / |z1 - z2| (DSGAN, Yang et al. 2019, Eq 3).

    Both lengths are mean absolute differences, as in the authors' code, which by default leaves out the limit tau too.

    Args:
        samples: (n, B, T, C, H, W), n >= 2.
        z: (n, B, latent_dim), that they were drawn with.

    Returns:
        a scalar, which grows with the diversity.
    """
    ratios = [
        (samples[i] - samples[j]).abs().flatten(1).mean(dim=1) / (z[i] - z[j]).abs().mean(dim=1)
        for i, j in combinations(range(len(samples)), 2)
    ]
    return torch.stack(ratios).mean()
