"""The other scores of an evaluation as torchmetrics metrics, equal to those of `trivd evaluate`.

Frames are (B, T, C, H, W), uint8 or of any floating type in [-1, 1]; samples of the same clips are a sequence of these,
or one tensor (S, B, T, C, H, W). What has a value per frame is averaged over clips: `compute` gives (T,), float64, or a
scalar for a single frame.
"""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from trivd.evaluation.metrics.diversity import Diversity
from trivd.evaluation.metrics.exact import ExactMetric, float_frames, pixels
from trivd.evaluation.metrics.frame_scores import RunningBest, psnr, ssim
from trivd.evaluation.metrics.sharpness import motion_magnitude, sharpness
from trivd.evaluation.networks.features import FeatureNetwork
from trivd.models.motion import endpoint_error
from trivd.runtime.errors import TrivdError

Samples = Tensor | Iterable[Tensor]


class _ClipMean(ExactMetric):
    """The mean over clips of values (B,) or (B, T)."""

    total: Tensor  # over clips
    clips: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("total", "clips")

    def compute(self) -> Tensor:
        """The mean, float64: (T,), or a scalar where there is one value per clip.

        Raises:
            TrivdError: no clip was seen.
        """
        clips = self.clips.sum()
        if clips == 0:
            raise TrivdError(f"{type(self).__name__} has seen no clip yet; call update first.")
        return self.total / clips

    def _add(self, values: Tensor) -> None:
        added = values.double().sum(dim=0)
        if self.clips > 0 and added.shape != self.total.shape:
            raise TrivdError(
                f"{type(self).__name__} takes clips of one length, but {len(added)} frames came after "
                f"{len(self.total)}; use one metric for each length."
            )
        self.total = self.total + added
        self.clips = self.clips + len(values)


class _BestSample(_ClipMean):
    """A score of the sample of each clip whose mean over frames is the highest (C.1, Figure 5)."""

    higher_is_better = True

    def update(self, prediction: Samples, truth: Tensor) -> None:
        """Add clips.

        Args:
            prediction: one sample of each clip, or several.
            truth: the true frames.

        Raises:
            TrivdError: there is no sample, shapes differ, or types or values are others.
        """
        true = float_frames("The truth", truth)
        best = RunningBest(true)
        for sample in _samples(prediction):
            best.update(self._score(float_frames("The prediction", sample), true))
        if best.best.isinf().any():
            raise TrivdError("There is no sample to score; give one or more of each clip.")
        self._add(best.best)

    @staticmethod
    @abstractmethod
    def _score(prediction: Tensor, truth: Tensor) -> Tensor: ...


class FramePSNR(_BestSample):
    """PSNR by frame, dB, at most 100; of the best sample where there are several."""

    _score = staticmethod(psnr)


class FrameSSIM(_BestSample):
    """SSIM by frame (Wang et al. 2004: window 11, sigma 1.5); of the best sample where there are several."""

    _score = staticmethod(ssim)


class Sharpness(_ClipMean):
    """Mean gradient magnitude of luma by frame, 8-bit grey levels per pixel; to be compared with the truth's."""

    def update(self, prediction: Tensor) -> None:
        """Add clips.

        Raises:
            TrivdError: another shape, type or range.
        """
        self._add(sharpness(float_frames("The prediction", prediction)))


class MotionMagnitude(_ClipMean):
    """Mean absolute change of luma by frame, 8-bit grey levels; to be compared with the truth's."""

    def update(self, prediction: Tensor, last_given: Tensor) -> None:
        """Add clips.

        Args:
            prediction: predicted frames.
            last_given: the frame before them, (B, C, H, W), of the same type and range.

        Raises:
            TrivdError: another shape, type or range.
        """
        given = float_frames("The given frame", last_given[:, None])[:, 0]
        self._add(motion_magnitude(float_frames("The prediction", prediction), given))


class SampleDiversity(_ClipMean):
    """Root mean squared difference by frame between two samples of a clip, 8-bit grey levels."""

    def update(self, prediction: Samples) -> None:
        """Add clips.

        Args:
            prediction: two samples or more of each clip.

        Raises:
            TrivdError: fewer than two samples, or another shape, type or range.
        """
        diversity = Diversity()
        for sample in _samples(prediction):
            diversity.update(float_frames("The prediction", sample))
        self._add(diversity.compute())


class EndPointError(_ClipMean):
    """Distance in pixels between predicted and true optical flow, over visible pixels; a scalar."""

    higher_is_better = False

    def update(self, flow: Tensor, truth: Tensor, visible: Tensor) -> None:
        """Add clips.

        Args:
            flow: (B, T, 2, H, W), pixels; see `trivd.models.motion`.
            truth: the same.
            visible: bool (B, T, H, W); pixels that have a true flow, at least one in each clip.

        Raises:
            TrivdError: the shapes do not fit, or a clip has no visible pixel.
        """
        if flow.dim() != 5 or flow.shape != truth.shape or flow.shape[2] != 2 or visible.shape != flow[:, :, 0].shape:
            raise TrivdError(
                f"Flows must both be (B, T, 2, H, W) and visible (B, T, H, W), not {tuple(flow.shape)}, "
                f"{tuple(truth.shape)} and {tuple(visible.shape)}."
            )
        if not visible.flatten(1).any(dim=1).all():
            raise TrivdError("A clip has no visible pixel, so it has no end-point error; leave it out.")
        clips = zip(flow.float(), truth.float(), visible.bool(), strict=True)
        self._add(torch.stack([endpoint_error(*clip) for clip in clips]))


class VideoInceptionScore(ExactMetric):
    """exp of the mean divergence between the classes of a clip and those of all (Salimans et al. 2016), in one split.

    Args:
        network: gives the logits. A `torch.nn.Module` moves with the metric, and keeps its precision.
    """

    higher_is_better = True
    plot_lower_bound = 1.0
    probabilities: Tensor  # (K,), over clips
    negative_entropy: Tensor  # the same
    clips: Tensor

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network
        self.add_sum("probabilities", "negative_entropy", "clips")

    def update(self, prediction: Tensor) -> None:
        """Add clips (B, T, C, H, W).

        Raises:
            TrivdError: another shape, type or range, or logits that are not finite.
        """
        logits = self.network(pixels("The prediction", prediction)).logits.double()
        if not logits.isfinite().all():
            raise TrivdError("Logits hold NaN or infinity, so they have no inception score; check the network.")
        log_p = logits.log_softmax(dim=1)  # (B, K)
        self.probabilities = self.probabilities + log_p.exp().sum(dim=0)
        self.negative_entropy = self.negative_entropy + (log_p.exp() * log_p).sum()
        self.clips = self.clips + len(logits)

    def compute(self) -> Tensor:
        """The score, a float64 scalar; 1 at least, the number of classes at most.

        Raises:
            TrivdError: no clip was seen.
        """
        clips = self.clips.sum()
        if clips == 0:
            raise TrivdError("VideoInceptionScore has seen no clip yet; call update first.")
        marginal = self.probabilities / clips
        # The mean divergence of p(y|x) from p(y) is the entropy of p(y) less the mean entropy of p(y|x).
        return (self.negative_entropy.sum() / clips - torch.special.xlogy(marginal, marginal).sum()).exp()


def _samples(prediction: Samples) -> Iterable[Tensor]:
    """The samples one by one."""
    return [prediction] if isinstance(prediction, Tensor) and prediction.dim() == 5 else prediction
