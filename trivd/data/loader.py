"""Batches of clips: an endless stream for training that resumes exactly, and a fixed pass for evaluation."""

import atexit
import signal
import weakref
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trivd.data.clips import Clip, ClipDataset
from trivd.data.frames import UnreadableVideo
from trivd.errors import TrivdError

ATTEMPTS = 10  # at a clip that can be read, before it is taken that none can


class Batch(NamedTuple):
    """Clips with their classes."""

    video: torch.Tensor  # (B, T, H, W, C) uint8
    labels: torch.Tensor  # (B,) int64
    unreadable: tuple[str, ...] = ()  # a sentence about each video that could not be read, for which another was taken


class TrainingStream:
    """Training batches for ever.

    Sample n of the stream is position n % len(dataset) of the shuffled epoch n // len(dataset), with a random start and
    crop drawn from (seed, n). So a batch depends on the seed and on its samples' numbers only: neither on the number of
    workers, nor on where the stream was resumed. Processes that train together take turns: of as many batches as there
    are processes, each takes its own.

    Args:
        dataset: where the clips come from.
        batch_size: samples of a batch; a batch may straddle two epochs.
        seed: of the order, the starts and the crops.
        start: samples already consumed, by all processes.
        workers: processes that read clips; 0 reads in this one.
        rank: number of this process among those that train together.
        world: how many these are.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        seed: int,
        start: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
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

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches from `start` on; `close` the generator to end its workers.

        Raises:
            TrivdError: the data cannot be read; single videos that cannot be are replaced, see `Batch.unreadable`.
        """
        batches = self._batches()
        atexit.register(_close, weakref.ref(batches))
        return batches

    def _batches(self) -> Generator[Batch, None, None]:
        loader = DataLoader(
            _Samples(self.dataset, self.seed),
            batch_sampler=self._sample_numbers(),
            num_workers=self.workers,
            collate_fn=_collate_or_error,
            worker_init_fn=_ignore_stop_signals,
            prefetch_factor=2 if self.workers else None,
        )
        for batch in loader:
            if isinstance(batch, TrivdError):
                raise batch
            yield batch

    def _sample_numbers(self) -> Iterator[list[tuple[int, int]]]:
        """Of each batch: its samples' numbers n, and the data set's index that each stands for."""
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


class _Sample(NamedTuple):
    clip: Clip
    unreadable: list[str]  # sentences


class _Samples(Dataset[_Sample | TrivdError]):
    def __init__(self, dataset: ClipDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, sample: tuple[int, int]) -> _Sample | TrivdError:
        """The clip of a sample; for one that cannot be read, another at random, always the same."""
        number, index = sample
        unreadable: list[str] = []
        try:  # a raised error would arrive wrapped in the worker's traceback
            for attempt in range(ATTEMPTS):
                rng = np.random.default_rng((self.seed, number, attempt) if attempt else (self.seed, number))
                if attempt:
                    index = int(rng.integers(len(self.dataset)))
                try:
                    return _Sample(self.dataset.training_clip(index, rng), unreadable)
                except UnreadableVideo as error:
                    unreadable.append(str(error))
        except TrivdError as error:
            return error
        return TrivdError(f"{ATTEMPTS} videos in succession cannot be read. The last: {unreadable[-1]}")


def evaluation_numbers(dataset: ClipDataset, clips: int) -> list[int]:
    """Numbers of the same `clips` evaluation clips at every call, evenly spread; of all clips if there are fewer."""
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


def _collate_or_error(samples: list[_Sample | TrivdError]) -> Batch | TrivdError:
    clips, unreadable = [], []
    for sample in samples:
        if isinstance(sample, TrivdError):
            return sample
        clips.append(sample.clip)
        unreadable += sample.unreadable
    return _collate(clips)._replace(unreadable=tuple(unreadable))


def _ignore_stop_signals(worker: int) -> None:
    """Ctrl-C, and SIGTERM from `timeout` or a batch system, go to the whole process group, but are for the training
    process: it saves its state and ends its workers itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _close(stream: weakref.ref[Generator[Batch, None, None]]) -> None:
    """End a stream's workers at exit, where Python itself would wait for them for ever: they ignore its SIGTERM."""
    if (generator := stream()) is not None:
        generator.close()
