"""LeCam's regulariser of discriminators (Tseng et al. 2021, "Regularizing GANs under Limited Data")."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from trivd.models.discriminators import View

DECAY = 0.99  # of the anchors, for each discriminator update (the authors' code)


def lecam(real: Tensor, fake: Tensor, anchor_real: Tensor, anchor_fake: Tensor) -> Tensor:
    """Mean of relu(D(x) - alpha_F)^2 plus mean of relu(alpha_R - D(G(z)))^2, over all outputs.

    The paper's equation has no ReLU; the authors' code has it: only what lies beyond the anchor of the other side pays.

    Args:
        real: D(x), of any shape.
        fake: D(G(z)).
        anchor_real: alpha_R, a scalar.
        anchor_fake: alpha_F.

    Returns:
        a scalar.
    """
    return (real - anchor_fake).relu().square().mean() + (anchor_real - fake).relu().square().mean()


class Anchors:
    """Moving averages of each discriminator's mean outputs: alpha_R on real clips, alpha_F on fake ones.

    They start from the means of the first update: zero-debiased, as in the authors' StyleGAN2 code.

    Args:
        views: of the discriminators that are regularised.
        device: where they are.
    """

    def __init__(self, views: Iterable[View], device: torch.device) -> None:
        # Of real means, of fake means, and of ones, each averaged from 0: the third shows what the start takes away.
        self.averages = {view: torch.zeros(3, device=device) for view in views}

    @torch.no_grad()
    def update(self, means: Mapping[str, Tensor]) -> None:
        """Include the mean outputs of an update, `discriminator/<view>/real` and `.../fake`, in place."""
        for view, average in self.averages.items():
            real, fake = means[f"discriminator/{view}/real"], means[f"discriminator/{view}/fake"]
            average.lerp_(torch.stack([real, fake, torch.ones_like(real)]), 1 - DECAY)

    def regularise(self, view: View, real: Tensor, fake: Tensor) -> Tensor:
        """`lecam` of a discriminator's outputs; 0 before the first update."""
        *sums, share = self.averages[view].unbind()
        begun = share > 0
        anchor_real, anchor_fake = (value / torch.where(begun, share, 1) for value in sums)
        return torch.where(begun, lecam(real, fake, anchor_real, anchor_fake), 0)
