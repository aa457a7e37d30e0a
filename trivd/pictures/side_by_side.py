"""Videos beside each other in one, under their labels and a bar that tells given frames from predicted ones."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trivd.pictures.draw import BAR, FONT_SIZE, GAP, GIVEN, INK, PAPER, PREDICTED, enlarge, rgb
from trivd.runtime.pixels import Pixels

SMALLEST_FONT = 9  # px
LETTERS = 16  # of a label that should fit above a column, unless it is known how long labels are
ELLIPSIS = "..."
BETWEEN = 16  # px between tiles

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def side_by_side(
    title: str, columns: Sequence[tuple[str, Pixels]], given: int, width: int, letters: int = LETTERS
) -> Pixels:
    """One video of several that stand beside each other, (T, height, width, 3), both sizes even.

    The line above gives the title and the frame's number, from 1. Below stand the labels, whose lines are separated by
    newlines, and the bar: blue above frames that were given, orange above those that were predicted.

    Args:
        title: of the clip.
        columns: label and video (T, H, W, C) of each; all of one T, H and W, even.
        given: how many of the first frames were given.
        width: the least width of a column, in px; videos are enlarged by a whole factor.
        letters: how many of a label should fit; the fewer, the larger they are.
    """
    frames, _, video_width = columns[0][1].shape[:3]
    scale = math.ceil(width / video_width)
    wide = scale * video_width
    size = max(SMALLEST_FONT, min(FONT_SIZE, wide // letters))
    font = ImageFont.load_default(size)
    line = size + GAP
    labels = [[_fitting(text, font, wide) for text in label.split("\n")] for label, _ in columns]
    header = (1 + max(map(len, labels))) * line + 2 * GAP + BAR
    header += header % 2
    plain = Image.new("RGB", (len(columns) * (wide + GAP) - GAP, header), PAPER)
    draw = ImageDraw.Draw(plain)
    draw.text((0, 0), _fitting(title, font, plain.width // 2), fill=INK, font=font)
    for number, lines in enumerate(labels):
        for place, text in enumerate(lines, start=1):
            draw.text((number * (wide + GAP), place * line), text, fill=INK, font=font)
    gap = np.full((frames, scale * columns[0][1].shape[1], GAP, 3), PAPER, np.uint8)
    shown = [part for _, video in columns for part in (enlarge(rgb(video), scale), gap)][:-1]
    headers = np.stack([_marked(plain, frame, frame < given, font) for frame in range(frames)])
    return np.concatenate([headers, np.concatenate(shown, axis=2)], axis=1)


def tile_grid(count: int, size: tuple[int, int], width: int) -> tuple[int, int]:
    """Rows and columns of as many tiles (height, width), about as many of each, in at most `width` px."""
    columns = min(math.ceil(math.sqrt(count)), max(1, width // (size[1] + BETWEEN)))
    return math.ceil(count / columns), columns


def tiled(videos: Sequence[Pixels], width: int) -> Pixels:
    """Videos (T, H, W, 3) of one size as the tiles of one, in a `tile_grid`."""
    frames, *size = videos[0].shape[:3]
    height, wide = (side + BETWEEN for side in size)
    rows, columns = tile_grid(len(videos), (size[0], size[1]), width)
    sheet = np.full((frames, rows * height - BETWEEN, columns * wide - BETWEEN, 3), PAPER, np.uint8)
    for number, video in enumerate(videos):
        row, column = divmod(number, columns)
        sheet[:, row * height :, column * wide :][:, : size[0], : size[1]] = video
    return sheet


def _marked(plain: Image.Image, frame: int, is_given: bool, font: Font) -> Pixels:
    """The header of a frame."""
    header = plain.copy()
    draw = ImageDraw.Draw(header)
    color = GIVEN if is_given else PREDICTED
    text = f"{'given' if is_given else 'predicted'} {frame + 1}"
    draw.text((header.width, 0), text, fill=color, font=font, anchor="ra")
    draw.rectangle((0, header.height - GAP - BAR, header.width, header.height - GAP - 1), fill=color)
    return np.asarray(header)


def _fitting(text: str, font: Font, width: int) -> str:
    """A text, its end left out if it is wider than `width` px."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + ELLIPSIS) > width:
        text = text[:-1]
    return text + ELLIPSIS
