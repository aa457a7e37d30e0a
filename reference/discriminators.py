"""The discriminators: what each one sees (3.1, Table 1), its network (A), and how its scores are combined (E.1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from reference.blocks import discriminator_blocks
from reference.layers import ClassEmbedding, linear, normalized
from trivd.config import Config, Decomposition, ModelConfig

# Table 1; a discriminator has the name of what it sees.
DECOMPOSITIONS: dict[Decomposition, tuple[str, ...]] = {
    "clip": ("clip",),
    "downsampled": ("small_clip",),
    "cropped": ("crop",),
    "cropped_downsampled": ("crop", "small_clip"),
    "mocogan_k1": ("frames", "clip"),
    "mocogan_k8": ("frames", "clip"),
    "dvd_gan_fp": ("frames", "small_clip"),
    "faster": ("small_frames", "crop"),
    "stronger": ("small_frames", "crop", "small_clip"),
}


def draw_view(view: str, video: Tensor, config: Config, rng: torch.Generator) -> Tensor:
    """Cut out of videos (B, C + T, channels, H, W), conditioning frames first, what a discriminator sees.

    `frames` are K of the T predicted ones, `clip` is everything, `crop` a window of H / s x W / s pixels that is the
    same in all frames of a sample; `small_` takes averages over s x s pixels. The draws are those that trivd makes.
    """
    batch, length, _, height, width = video.shape
    given, scale = config.model.conditioning_frames, config.discriminator.downsampling
    if "frames" in view:
        k = 1 if config.discriminator.decomposition == "mocogan_k1" else config.discriminator.frames
        order = torch.rand(batch, length - given, generator=rng).argsort(dim=1)[:, :k]
        video = torch.stack([clip[given + frames] for clip, frames in zip(video, order.to(video.device), strict=True)])
    if "small" in view:
        video = F.avg_pool3d(video, (1, scale, scale))
    if view == "crop":
        h, w = height // scale, width // scale
        tops = torch.randint(height - h + 1, (batch,), generator=rng).tolist()
        lefts = torch.randint(width - w + 1, (batch,), generator=rng).tolist()
        corners = zip(video, tops, lefts, strict=True)
        video = torch.stack([clip[..., top : top + h, left : left + w] for clip, top, left in corners])
    return video


class Scores(NamedTuple):
    """A discriminator's answers for each sample and time step of its features, (B, T') each."""

    video: Tensor  # r_x, from the video alone
    joint: Tensor  # r_xy, from the video and its class


def combine(scores: Scores, head: str) -> Tensor:
    """The outputs o over which a loss is averaged."""
    if head == "mixed_projection":
        return scores.video[:, None, :] + scores.joint.sum(dim=1)[None, :, None]  # Eq 15: (B, B', T)
    return (scores.video + scores.joint).sum(dim=1)  # Miyato and Koyama 2018: (B,)


class Discriminator(nn.Module):
    """BigGAN's D of five blocks; that of clips starts with two 3D blocks: (B, T, channels, H, W), (B,) -> scores."""

    def __init__(self, config: ModelConfig, *, temporal: bool, pool_time: bool = False) -> None:
        super().__init__()
        width, features = config.discriminator_channels, config.discriminator_channels * 16
        self.temporal = 2 if temporal else 0
        self.blocks = discriminator_blocks(
            config.image_channels, width, 5, pooled=4, temporal=self.temporal, pool_time=pool_time
        )
        self.score = linear(features, 1)
        self.embedding = normalized(ClassEmbedding(max(1, config.classes), features))

    def forward(self, video: Tensor, labels: Tensor) -> Scores:
        with parametrize.cached():  # weights are normalised once
            clip = video.transpose(1, 2)  # (B, channels, T, H, W)
            for block in self.blocks[: self.temporal]:
                clip = block(clip)
            x = clip.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
            for block in self.blocks[self.temporal :]:
                x = block(x)
            h = F.relu(x).sum(dim=(2, 3)).unflatten(0, (len(video), -1))  # (B, T', C)
            y = self.embedding(labels)  # (B, C)
            return Scores(self.score(h).squeeze(2), (h * y[:, None]).sum(dim=2))


class Discriminators(nn.ModuleDict):
    """The discriminators of a decomposition, by the name of what each sees."""

    def __init__(self, config: Config) -> None:
        views = DECOMPOSITIONS[config.discriminator.decomposition]
        pool_time = config.discriminator.temporal_pooling
        super().__init__(
            {view: Discriminator(config.model, temporal="frames" not in view, pool_time=pool_time) for view in views}
        )
