"""The discriminators: what each one sees, how it answers, and their decompositions (3.1, Table 1, A, E.1)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.config import Decomposition, DiscriminatorConfig, ModelConfig
from trivd.models.blocks import discriminator_blocks
from trivd.models.layers import ClassEmbedding, SNLinear
from trivd.models.spectral_norm import normalized
from trivd.ops.crop import crop
from trivd.ops.precision import exact_dtype, full_precision
from trivd.runtime.distributed import gather_batch, rank_rows, world_size

Head = Literal["mixed_projection", "projection"]
View = Literal["frames", "small_frames", "clip", "small_clip", "crop"]

DECOMPOSITIONS: dict[Decomposition, tuple[View, ...]] = {
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
assert set(DECOMPOSITIONS) == set(get_args(Decomposition))

BLOCKS = 5  # of every discriminator; the first four pool (A)
TEMPORAL_BLOCKS = 2  # of those that see clips: 3D convolutions (A)


class Scores(NamedTuple):
    """A discriminator's answers for each sample b and time step t of its features, before they are combined (E.1)."""

    video: Tensor  # r_x (B, T), from the video alone
    joint: Tensor  # r_xy (B, T), from the video and its class

    def split(self, first: int) -> tuple["Scores", "Scores"]:
        """The first samples, and the rest."""
        return Scores(self.video[:first], self.joint[:first]), Scores(self.video[first:], self.joint[first:])


def combine(scores: Scores, head: Head) -> Tensor:
    """The discriminator's outputs o, over which a loss is averaged.

    mixed_projection: o[b, b', t] = r_x[b, t] + sum over t' of r_xy[b', t'] (Eq 15), shape (B, N B, T): b is a sample
    of this process, b' one of all N processes, since B of Eq 15 is the batch size (E.1).
    projection: one output per sample (B,), the sum over time of both (Miyato and Koyama 2018).
    """
    joint = scores.joint.sum(dim=1)
    if head == "mixed_projection":
        return scores.video[:, None, :] + gather_batch(joint)[None, :, None]
    return scores.video.sum(dim=1) + joint


def own_outputs(scores: Scores, head: Head) -> Tensor:
    """Each sample's own output D(x), (B,), which no other sample has a part in; their mean is that of `combine`."""
    video = scores.video.mean(dim=1) if head == "mixed_projection" else scores.video.sum(dim=1)
    return video + scores.joint.sum(dim=1)


# Of each sample: which frames (B, K), or where the crop begins, tops (B,) and lefts (B,); nothing of other views.
Places = tuple[Tensor, ...]


def draw_places(
    view: View,
    shape: Sequence[int],
    *,
    conditioning: int,
    frames: int,
    scale: int,
    rng: torch.Generator,
    copies: int = 1,
) -> Places:
    """Draw where a view is cut out of whole videos (3.1).

    Args:
        view: see `cut_view`.
        shape: of the videos, (B, C + T, channels, H, W).
        conditioning: C, frames that are given and never drawn.
        frames: K.
        scale: s.
        rng: on the CPU: the same draws for every device.
        copies: of the samples of a batch that lie one after the other in the videos, see `rank_rows`.

    Returns:
        int64 on the CPU.
    """
    batch, length, _, height, width = shape
    everywhere = batch * world_size()
    if view in ("frames", "small_frames"):
        keys = rank_rows(torch.rand(everywhere, length - conditioning, generator=rng, device="cpu"), copies)
        return (keys.argsort(dim=1)[:, :frames] + conditioning,)
    if view == "crop":
        ends = (whole - whole // scale + 1 for whole in (height, width))
        return tuple(rank_rows(torch.randint(end, (everywhere,), generator=rng, device="cpu"), copies) for end in ends)
    return ()


def cut_view(view: View, video: Tensor, places: Places, scale: int) -> Tensor:
    """Cut out of whole videos what a discriminator sees (3.1).

    Args:
        view: `frames`: K predicted frames, without replacement; `clip`: everything; `crop`: a part of height H / s and
            width W / s at a random place, the same for all frames of a sample; `small_`: downsampled by s x s averages.
        video: (B, C + T, channels, H, W), conditioning frames first.
        places: of `draw_places`, on the device of the videos.
        scale: s.

    Returns:
        (B, K or C + T, channels, H', W').
    """
    if view in ("frames", "small_frames"):
        batch, length = video.shape[:2]
        order = places[0].to(video.device)
        chosen = order + torch.arange(batch, device=video.device).unsqueeze(1) * length
        video = video.flatten(0, 1).index_select(0, chosen.flatten()).unflatten(0, order.shape)
    if view in ("small_frames", "small_clip"):
        return F.avg_pool2d(video.flatten(0, 1), scale).unflatten(0, video.shape[:2])
    if view == "crop":
        tops, lefts = (place.to(video.device) for place in places)
        video = crop(video, tops, lefts, video.shape[-2] // scale, video.shape[-1] // scale)
    return video


class Discriminator(nn.Module):
    """One discriminator network: BigGAN's D on frames, or with 3D convolutions in its first blocks on clips (A).

    Args:
        image_channels: of the input.
        width: ch_D.
        classes: number of classes, 0 for one constant zero class.
        temporal: whether it sees clips.
        pool_time: whether its 3D blocks halve time too.
    """

    def __init__(
        self, image_channels: int, width: int, classes: int, *, temporal: bool, pool_time: bool = False
    ) -> None:
        super().__init__()
        self.temporal = TEMPORAL_BLOCKS if temporal else 0
        self.blocks = discriminator_blocks(
            image_channels, width, BLOCKS, pooled=BLOCKS - 1, temporal=self.temporal, pool_time=pool_time
        )
        features = width * 2 ** (BLOCKS - 1)
        self.score = SNLinear(features, 1)
        self.embedding = ClassEmbedding(classes, features)

    def forward(self, video: Tensor, labels: Tensor) -> Scores:
        """(B, T, channels, H, W), (B,) -> scores (B, T'); T' = T // 2 // 2 where 3D blocks halve time, at least 1."""
        with normalized(self):
            return self._scores(video, labels)

    def _scores(self, video: Tensor, labels: Tensor) -> Scores:
        x = video.transpose(1, 2) if self.temporal else video.flatten(0, 1)
        for index, block in enumerate(self.blocks):
            if self.temporal and index == self.temporal:
                x = x.transpose(1, 2).flatten(0, 1)  # (B, C, T, H, W) -> (B T, C, H, W)
            x = block(x)
        features = F.relu(x).sum(dim=(2, 3), dtype=exact_dtype(x)).unflatten(0, (len(video), -1))
        with full_precision(features):
            joint = (features * self.embedding(labels).unsqueeze(1)).sum(dim=2)
            return Scores(self.score(features).squeeze(2), joint)


class Discriminators(nn.ModuleDict):
    """The discriminators of a decomposition, by the name of what each sees."""

    def __init__(self, config: DiscriminatorConfig, model: ModelConfig) -> None:
        views = DECOMPOSITIONS[config.decomposition]
        super().__init__(
            {
                view: Discriminator(
                    model.image_channels,
                    model.discriminator_channels,
                    model.classes,
                    temporal="frames" not in view,
                    pool_time=config.temporal_pooling,
                )
                for view in views
            }
        )
        self.config = config
        self.views = views
        self.conditioning = model.conditioning_frames
        self.drawn_frames = 1 if config.decomposition == "mocogan_k1" else config.frames

    def draw_places(self, view: View, shape: Sequence[int], rng: torch.Generator, copies: int = 1) -> Places:
        """Where the discriminator of that name looks in videos of a shape (B, C + T, channels, H, W)."""
        return draw_places(
            view,
            shape,
            conditioning=self.conditioning,
            frames=self.drawn_frames,
            scale=self.config.downsampling,
            rng=rng,
            copies=copies,
        )

    def cut(self, view: View, video: Tensor, places: Places) -> Tensor:
        """The view of videos (B, C + T, channels, H, W) that the discriminator of that name sees; see `cut_view`."""
        return cut_view(view, video, places, self.config.downsampling)

    def side(self, view: View, resolution: int) -> int:
        """Height and width in pixels of what the discriminator of that name sees."""
        return resolution if view in ("frames", "clip") else resolution // self.config.downsampling

    def short_clips(self, model: ModelConfig) -> str:
        """A sentence for the user if the model's clips are too short to be halved by every 3D block, else ""."""
        sees_clips = any("frames" not in view for view in self.views)
        if not (self.config.temporal_pooling and sees_clips) or model.frames >= 2**TEMPORAL_BLOCKS:
            return ""
        return (
            f"Clips of {model.frames} frames are too short to halve their time {TEMPORAL_BLOCKS} times; discriminators "
            "of clips keep one time step. Longer clips, or --discriminator.no-temporal-pooling, give more."
        )

    def pixels(self, model: ModelConfig) -> int:
        """Pixels per video that the discriminators process (3.1)."""
        video = torch.empty(1, model.frames, 1, model.resolution, model.resolution)
        rng = torch.Generator()
        return sum(self.cut(view, video, self.draw_places(view, video.shape, rng)).numel() for view in self.views)
