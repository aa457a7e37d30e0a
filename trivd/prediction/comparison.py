"""The files that `trivd compare` writes: the futures of several models side by side, as videos, strips and a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trivd.data.clips import Clip, ClipDataset
from trivd.data.formats.frames import UnreadableVideo
from trivd.models.pretrained import weights_hash
from trivd.pictures.draw import FPS, VIEWABLE, encode_mp4, encode_png, sample_grid
from trivd.pictures.html import Page, Picture, Section, Table, write_page
from trivd.pictures.side_by_side import side_by_side, tile_grid, tiled
from trivd.prediction.columns import Column, labels
from trivd.prediction.page import TITLE
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import write_atomically
from trivd.runtime.pixels import Pixels

PAGE_FILE = "comparison.html"  # by which `trivd.data.datasets.tree` knows the folder
OVERVIEW_FILE = "overview.mp4"
TILE = 128  # px, the least width of a column of the overview
OVERVIEW_WIDTH, OVERVIEW_HEIGHT = 1920, 2160  # px that it may have

Numbered = dict[int, Clip]  # by number in the data set


def named_clips(held_out: ClipDataset, numbers: Sequence[int]) -> Numbered:
    """The held-out clips of these numbers.

    Raises:
        TrivdError: there is no such clip, or it cannot be read.
    """
    last = held_out.evaluation_clips - 1
    if wrong := [number for number in numbers if not 0 <= number <= last]:
        raise TrivdError(f"--clips names {wrong[0]}, but the {held_out.split} split has clips 0 to {last}.")
    return {number: held_out.evaluation_clip(number) for number in numbers}


def random_clips(held_out: ClipDataset, count: int, seed: int) -> tuple[Numbered, list[str]]:
    """Random held-out clips by number, all if there are fewer; others take the place of those that cannot be read.

    Returns:
        The clips, and a message for each video that cannot be read.

    Raises:
        TrivdError: none can be read.
    """
    clips: Numbered = {}
    unreadable = []
    for number in np.random.default_rng(seed).permutation(held_out.evaluation_clips).tolist():
        if len(clips) == count:
            break
        try:
            clips[number] = held_out.evaluation_clip(number)
        except UnreadableVideo as error:
            unreadable.append(str(error))
    if not clips:
        raise TrivdError(f"No held-out clip can be read. The first: {unreadable[0]}")
    return dict(sorted(clips.items())), list(dict.fromkeys(unreadable))


def check_every(columns: Sequence[Column], every: int) -> None:
    """Refuse strips of frames that would show no predicted one.

    Raises:
        TrivdError: `every` exceeds the number of predicted frames.
    """
    predicted = columns[0].predictor.config.predicted_frames
    if every > predicted:
        raise TrivdError(
            f"--every {every} would show none of the {predicted} predicted frames; it may be 1 to {predicted}."
        )


def write_comparison(
    columns: Sequence[Column], clips: Numbered, out: Path, *, about: Sequence[str], seed: int = 0, every: int = 2
) -> Iterator[str]:
    """Draw a future of each clip for each column and write them side by side: videos, strips of frames, a page (D).

    All columns see the same clips. The clip of number n is drawn with seed + n; columns of one latent size share its z.

    Args:
        columns: the models, which predict the same clips.
        clips: what they predict.
        out: the folder.
        about: sentences of the page's beginning.
        seed: of z.
        every: show one frame in so many in the strips.

    Yields:
        a sentence for each file, or kind of files, once it is there.
    """
    given = columns[0].predictor.config.conditioning_frames
    names = labels(columns)
    tiles: list[Pixels] = []
    sections = []
    for number, clip in clips.items():
        rows = [("truth", clip.video)]
        rows += [(name, column.video(clip, seed + number)) for name, column in zip(names, columns, strict=True)]
        video = encode_mp4(side_by_side(f"clip {number}", rows, given, VIEWABLE), FPS)
        lines = [(name.replace("\n", ", "), shown) for name, shown in rows]
        strip = encode_png(sample_grid(lines, given, every=every))
        write_atomically(out / f"clip-{number}.mp4", video)
        write_atomically(out / f"clip-{number}.png", strip)
        yield f"{out}/clip-{number}.mp4 and .png: {' | '.join(name for name, _ in lines)}."
        tile = side_by_side(f"clip {number}", rows, given, TILE)
        if _fit_on_one(len(clips), tile):
            tiles.append(tile)
        pictures = [
            Picture(f"Clip {number}: {' | '.join(name for name, _ in lines)}", video, "video/mp4"),
            Picture(f"Clip {number}, {f'one frame in {every}' if every > 1 else 'all frames'}", strip, "image/png"),
        ]
        sections.append(Section(f"Clip {number}", "", pictures))
    if len(tiles) > 1:
        video = encode_mp4(tiled(tiles, OVERVIEW_WIDTH), FPS)
        write_atomically(out / OVERVIEW_FILE, video)
        yield f"{out}/{OVERVIEW_FILE}: all clips."
        sections.insert(0, Section("All clips", "", [Picture("All clips", video, "video/mp4")]))
    table = Section("Columns", _about_z(columns, seed), [_table(columns)])
    write_page(out / PAGE_FILE, Page(f"{TITLE}comparison", about, [table, *sections]))
    yield f"{out}/{PAGE_FILE}: everything on one page."


def _fit_on_one(count: int, tile: Pixels) -> bool:
    """Whether so many tiles (T, H, W, 3) make one video of a size that players can show."""
    height, width = tile.shape[1:3]
    rows, _ = tile_grid(count, (height, width), OVERVIEW_WIDTH)
    return rows * height <= OVERVIEW_HEIGHT and width <= OVERVIEW_WIDTH


def _about_z(columns: Sequence[Column], seed: int) -> str:
    text = (
        "Blue: frames that were given. Orange: frames that the models drew, without seeing the truth. The clip of "
        f"number n is drawn with seed {seed} + n"
    )
    sizes = {column.predictor.config.latent_dim for column in columns}
    if len(sizes) > 1:
        return f"{text}; models whose latent sizes differ have other z."
    return f"{text}, so all columns share its z, apart from truncation."


def _table(columns: Sequence[Column]) -> Table:
    rows = [
        [
            column.name,
            column.truncation_text,
            column.predictor.config.unit,
            column.predictor.trained_with.discriminator.decomposition,
            Path(column.predictor.history["data"]).name,
            f"{column.predictor.history['step']:,}",
            weights_hash(column.predictor.generator)[:12],
        ]
        for column in columns
    ]
    return Table(["model", "z", "unit", "decomposition", "trained on", "steps", "weights"], rows)
