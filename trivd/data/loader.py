"""Batches of clips: an endless stream for training that resumes exactly, and a fixed pass for evaluation."""

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from trivd.data.clips import Clip, ClipDataset
from trivd.data.formats.frames import UnreadableVideo
from trivd.data.prefetch import PrefetchWorkers, Warn
from trivd.data.processes import unexpected
from trivd.runtime.errors import TrivdError
from trivd.runtime.pixels import Pixels

ATTEMPTS = 10  # at reading a sample, each of another clip


class Batch(NamedTuple):
    """Clips with their classes."""

    video: torch.Tensor  # (B, T, H, W, C) uint8
    labels: torch.Tensor  # (B,) int64
    unreadable: tuple[str, ...] = ()  # a message for each unreadable video that was replaced


class TrainingStream:
    """An endless stream of training batches.

    Sample n of the stream is position n % len(dataset) of the shuffled epoch n // len(dataset), with a random start and
    crop drawn from (seed, n). So a batch depends only on the seed and on its samples' numbers, neither on the number of
    workers, nor on where the stream was resumed. Of every `world` consecutive batches each rank reads one.

    Args:
        dataset: source of the clips.
        batch_size: samples of a batch; a batch may straddle two epochs.
        seed: seed of the order, the starts and the crops.
        start: number of samples that all ranks have consumed already.
        workers: number of processes that read clips; 0 reads in this process.
        rank: rank of this process.
        world: number of ranks.
        warn: callback for messages about slow workers, see `trivd.data.prefetch`.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        seed: int,
        start: int,
        workers: int,
        *,
        rank: int = 0,
        world: int = 1,
        warn: Warn = lambda sentence: None,
    ) -> None:
        if len(dataset) == 0:
            raise TrivdError("The training data hold no clip.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.workers = workers
        self.rank = rank
        self.world = world
        self.warn = warn

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches from `start` on. The workers start here; `close` the generator to end them.

        Raises:
            TrivdError: the data cannot be read, now or later, or there is no shared memory for the workers; single
                videos that cannot be read are replaced, see `Batch.unreadable`.
            WorkerLostError: a worker has ended, in a later iteration.
        """
        samples, numbers = _Samples(self.dataset, self.seed), self._sample_numbers()
        if self.workers == 0:
            return (samples.batch(batch) for batch in numbers)
        clip = samples.read((self.start, next(self._sample_numbers())[0][1])).clip
        shape = (self.batch_size, *clip.video.shape)
        return _batches(PrefetchWorkers(samples.fill, numbers, shape, self.workers, self.warn))

    def _sample_numbers(self) -> Iterator[list[tuple[int, int]]]:
        """The samples of each batch: their numbers n, and the index in the data set that each stands for."""
        length, n, epoch = len(self.dataset), self.start + self.rank * self.batch_size, -1
        while True:
            batch = []
            for number in range(n, n + self.batch_size):
                if number // length != epoch:
                    epoch = number // length
                    order = np.random.default_rng((self.seed, epoch, 1)).permutation(length)
                batch.append((number, int(order[number % length])))
            yield batch
            n += self.batch_size * self.world


def _batches(workers: "PrefetchWorkers[list[tuple[int, int]], _BatchInfo]") -> Generator[Batch, None, None]:
    try:
        while True:
            video, (labels, unreadable) = workers.next()
            yield Batch(torch.from_numpy(video), torch.tensor(labels, dtype=torch.int64), unreadable)
    finally:
        workers.close()


class _Sample(NamedTuple):
    clip: Clip
    unreadable: list[str]  # messages


class _BatchInfo(NamedTuple):
    """The labels and messages of a batch."""

    labels: list[int]
    unreadable: tuple[str, ...]


class _Samples:
    """Reader of samples, each given by its number n and the index in the data set that it stands for."""

    def __init__(self, dataset: ClipDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def batch(self, numbers: list[tuple[int, int]]) -> Batch:
        """The samples of a batch."""
        samples = [self.read(sample) for sample in numbers]
        sentences = tuple(sentence for sample in samples for sentence in sample.unreadable)
        return _collate([sample.clip for sample in samples])._replace(unreadable=sentences)

    def fill(self, numbers: list[tuple[int, int]], video: Pixels) -> _BatchInfo:
        """Read the samples of a batch into `video` (B, T, H, W, C)."""
        labels: list[int] = []
        unreadable: list[str] = []
        for place, sample in zip(video, numbers, strict=True):
            clip, sentences = self.read(sample)
            place[...] = clip.video
            labels.append(clip.label)
            unreadable += sentences
        return _BatchInfo(labels, tuple(unreadable))

    def read(self, sample: tuple[int, int]) -> _Sample:
        """The clip of a sample; an unreadable one is replaced by a random one, which depends on seed and number alone.

        Raises:
            TrivdError: no clip can be read, or an unexpected error occurred.
        """
        number, index = sample
        unreadable: list[str] = []
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng((self.seed, number, attempt) if attempt else (self.seed, number))
            if attempt:
                index = int(rng.integers(len(self.dataset)))
            try:
                return _Sample(self.dataset.training_clip(index, rng), unreadable)
            except UnreadableVideo as error:
                unreadable.append(str(error))
            except (TrivdError, MemoryError):
                raise
            except Exception as error:
                raise TrivdError(unexpected(f"Clip {index} of the training data cannot be read", error)) from error
        raise TrivdError(f"{ATTEMPTS} videos in succession cannot be read. The last: {unreadable[-1]}")


def evaluation_numbers(dataset: ClipDataset, clips: int) -> list[int]:
    """Numbers of `clips` evaluation clips, evenly spread and the same at every call; of all if there are fewer."""
    count = min(clips, dataset.evaluation_clips)
    return [i * dataset.evaluation_clips // count for i in range(count)]


def evaluation_batch(dataset: ClipDataset, numbers: Sequence[int]) -> Batch:
    """The evaluation clips of these numbers.

    Raises:
        TrivdError: a video cannot be read.
    """
    return _collate([dataset.evaluation_clip(number) for number in numbers])


def _collate(clips: list[Clip]) -> Batch:
    videos, labels = zip(*clips, strict=True)
    return Batch(torch.from_numpy(np.stack(videos)), torch.tensor(labels, dtype=torch.int64))
