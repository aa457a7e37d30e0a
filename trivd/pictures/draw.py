"""Pictures of predictions: grids of samples, coloured flow and arrows, and PNG, GIF and MP4 files.

Frames are uint8 (H, W, C), videos (T, H, W, C), with C = 1 or 3; `trivd.runtime.pixels.to_uint8` makes them.
"""

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from trivd.runtime.files import write_atomically
from trivd.runtime.pixels import Pixels

Color = tuple[int, int, int]

GIVEN: Color = (0, 114, 178)  # blue and vermilion, which colour-blind eyes tell apart (Okabe and Ito)
PREDICTED: Color = (213, 94, 0)
PAPER: Color = (255, 255, 255)
INK: Color = (34, 34, 34)

GRID_WIDTH = 2400  # px; wider rows are wrapped
FONT_SIZE = 18  # px
GAP = 4  # px between frames
BAR = 4  # px, the coloured bar above frames
LEGEND = 96  # px, the colour wheel below pictures of flow
FPS = 8.0  # of videos of futures: slow enough to see the frames
GIF_SCALE = 4  # enlargement of their GIFs
VIEWABLE = 256  # px, the least smaller side of a written MP4

# The colour wheel of the Middlebury flow benchmark (Baker et al. 2011): its hues, and the steps from each to the next.
HUES = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))
HUE_STEPS = (15, 6, 4, 11, 13, 6)
SUPERSAMPLING = 4  # arrows are drawn this many times larger and then reduced, for smooth edges
SHORTEST_ARROW = 2.0  # px of the picture; shorter arrows would be dots
ARROW_COLORS = (((0, 0, 0, 190), 4.0), ((255, 255, 255, 255), 1.6))  # an outline and an inside, with their widths in px


def sample_grid(rows: Sequence[tuple[str, Pixels]], conditioning: int, scale: int = 2, every: int = 1) -> Pixels:
    """Videos of one clip below each other, time from left to right.

    Columns carry the frame's number, from 1; a blue bar marks frames that were given, an orange one those that were
    predicted. Rows wider than 2400 px are wrapped together, so that they stay aligned in time.

    Args:
        rows: label and video (T, H, W, C) of each row; all of one T, H and W.
        conditioning: how many of the first frames were given.
        scale: enlargement of a frame.
        every: show one frame in so many; the last given frame is always among them.

    Returns:
        The picture (height, width, 3).
    """
    frames, height, width = rows[0][1].shape[:3]
    shown = range((conditioning - 1) % every, frames, every)
    font = ImageFont.load_default(FONT_SIZE)
    margin = max(math.ceil(font.getlength(label)) for label, _ in rows) + 4 * GAP
    step_x, step_y = scale * width + GAP, scale * height + GAP
    columns = min(len(shown), max(1, (GRID_WIDTH - margin) // step_x))
    header = 2 * (FONT_SIZE + GAP) + BAR + 2 * GAP  # word, number, bar
    block = header + len(rows) * step_y + 2 * GAP  # height of all rows of one line of columns
    picture = Image.new("RGB", (margin + columns * step_x, math.ceil(len(shown) / columns) * block), PAPER)
    draw = ImageDraw.Draw(picture)

    for position, frame in enumerate(shown):
        left, top = margin + position % columns * step_x, position // columns * block
        given = frame < conditioning
        color = GIVEN if given else PREDICTED
        if position % columns == 0 or (not given and frame - every < conditioning):
            draw.text((left, top + GAP), "given" if given else "predicted", fill=color, font=font)
        draw.text((left, top + 2 * GAP + FONT_SIZE), str(frame + 1), fill=color, font=font)
        draw.rectangle((left, top + header - GAP - BAR, left + step_x - GAP - 1, top + header - GAP - 1), fill=color)
        for row, (label, video) in enumerate(rows):
            y = top + header + row * step_y
            picture.paste(Image.fromarray(enlarge(rgb(video[frame]), scale)), (left, y))
            if position % columns == 0:
                draw.text((margin - 2 * GAP, y + step_y // 2), label, fill=INK, font=font, anchor="rm")
    return np.asarray(picture)


def flow_to_color(flow: Tensor, max_flow: float | None = None) -> Pixels:
    """Direction as hue and length as saturation: no motion is white, to the right red, to the left blue.

    Args:
        flow: (..., 2, H, W), channels (x, y), y downwards. Backward flow, as `trivd.models.motion` gives it, points to
            where content came from; pass `-flow` to colour by where it goes.
        max_flow: length of full saturation, in pixels; longer vectors are darkened. None: the longest one given.

    Returns:
        (..., H, W, 3).
    """
    x, y = (flow.detach().float().cpu() + 0.0).unbind(dim=-3)  # each (..., H, W); + 0.0 turns -0 into 0
    length = torch.hypot(x, y)
    longest = float(length.max()) if max_flow is None else max_flow
    radius = (length / longest if longest > 0 else length)[..., None]
    wheel = _color_wheel()  # (steps, 3)
    turn = (torch.atan2(-y, -x) / math.pi + 1) / 2 * (len(wheel) - 1)
    below = turn.floor().long()
    hue = torch.lerp(wheel[below], wheel[(below + 1) % len(wheel)], (turn - below)[..., None])  # (..., H, W, 3)
    color = torch.where(radius <= 1, 1 - radius * (1 - hue), 0.75 * hue)
    pixels: Pixels = (255 * color).floor().to(torch.uint8).numpy()
    return pixels


def color_wheel_legend(size: int) -> Pixels:
    """The key to `flow_to_color` (size, size, 3): a disk whose points have the colour of the flow from its centre."""
    from_centre = torch.linspace(-1, 1, size)
    flow = torch.stack(torch.meshgrid(from_centre, from_centre, indexing="xy"))  # (2, size, size)
    outside = flow.norm(dim=0) > 1
    return flow_to_color(flow.masked_fill(outside, 0), max_flow=1.0)


def flow_legend(width: int, max_flow: float) -> Pixels:
    """A strip (LEGEND, width, 3) below pictures of flow: the colour wheel at the right, and the speed at its edge.

    Args:
        width: of the pictures.
        max_flow: length of full saturation, in pixels.
    """
    picture = Image.new("RGB", (width, LEGEND), PAPER)
    picture.paste(Image.fromarray(color_wheel_legend(LEGEND)), (width - LEGEND - GAP, 0))
    text = f"direction of motion; {max_flow:.1f} px per frame at the edge"
    draw = ImageDraw.Draw(picture)
    draw.text(
        (width - LEGEND - 5 * GAP, LEGEND // 2), text, fill=INK, font=ImageFont.load_default(FONT_SIZE), anchor="rm"
    )
    return np.asarray(picture)


def flow_arrows(frame: Pixels, flow: Tensor, every: int = 4, scale: int = 8) -> Pixels:
    """Arrows over an enlarged frame, each from where content was to where it is, true to scale.

    Args:
        frame: (H, W, C), the frame that the motion led to.
        flow: backward flow (2, H, W) in pixels, as `trivd.models.motion` gives it.
        every: one arrow per square of so many pixels, the mean of its flow.
        scale: enlargement of the frame.

    Returns:
        (scale * H, scale * W, 3).
    """
    height, width = scale * frame.shape[0], scale * frame.shape[1]
    vectors = scale * F.avg_pool2d(flow.detach().float().cpu()[None], every)[0]  # (2, H / every, W / every)
    overlay = Image.new("RGBA", (SUPERSAMPLING * width, SUPERSAMPLING * height))
    draw = ImageDraw.Draw(overlay)
    for color, stroke in ARROW_COLORS:
        for row, column in np.ndindex(*vectors.shape[1:]):
            head = (scale * every * (column + 0.5), scale * every * (row + 0.5))
            _draw_arrow(draw, head, vectors[:, row, column].tolist(), stroke, color)
    picture = Image.fromarray(enlarge(rgb(frame), scale)).convert("RGBA")
    picture.alpha_composite(overlay.resize((width, height), Image.Resampling.BOX))
    return np.asarray(picture.convert("RGB"))


def enlarge(frames: Pixels, factor: int) -> Pixels:
    """Frames (..., H, W, C) with every pixel repeated `factor` times in both directions."""
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def encode_png(image: Pixels) -> bytes:
    """An image (H, W, C) as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(rgb(image)).save(buffer, format="PNG")
    return buffer.getvalue()


def encode_gif(video: Pixels, fps: float, scale: int = 1) -> bytes:
    """A video (T, H, W, C) as a GIF that repeats for ever; its timing is rounded to hundredths of a second.

    One palette of 256 colours serves all frames, without dithering: what does not change does not flicker. A frame that
    repeats the one before is written too, so that as many can be read.
    """
    column = Image.fromarray(rgb(video).reshape(-1, video.shape[2], 3))  # all frames as one image: one palette
    quantized = column.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    indices = enlarge(np.asarray(quantized).reshape(*video.shape[:3], 1), scale)[..., 0]  # (T, scale * H, scale * W)
    colors = np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
    palette[: len(colors), 1:] = colors
    buffer = io.BytesIO()
    # Pillow would leave out frames that repeat the one before.
    with av.open(buffer, mode="w", format="gif", options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=Fraction(100, max(1, round(100 / fps))))
        stream.height, stream.width = indices.shape[1:]
        stream.pix_fmt = "pal8"
        for frame in indices:
            indexed = av.VideoFrame.from_ndarray((frame, palette), format="pal8")  # type: ignore[arg-type]
            container.mux(stream.encode(indexed))
        container.mux(stream.encode())  # what the encoder still holds
    return buffer.getvalue()


def encode_mp4(video: Pixels, fps: float) -> bytes:
    """A video (T, H, W, C) as MP4, H.264 where the encoder is built in and MPEG-4 elsewhere, yuv420p.

    Small videos are enlarged by a whole factor until their smaller side has 256 pixels or more. The codec stores even
    sizes only: an odd one repeats its last row or column.
    """
    factor = math.ceil(VIEWABLE / min(video.shape[1:3]))
    frames = enlarge(rgb(video), factor)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    h264 = "libx264" in av.codecs_available
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264" if h264 else "mpeg4", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if h264:
            stream.options = {"crf": "16"}  # near lossless: blocks of pixels keep their edges
        else:
            stream.bit_rate = 8_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())  # what the encoder still holds
    return buffer.getvalue()


def save_png(path: Path | str, image: Pixels) -> None:
    """Write `encode_png`'s file."""
    write_atomically(path, encode_png(image))


def save_gif(path: Path | str, video: Pixels, fps: float, scale: int = 1) -> None:
    """Write `encode_gif`'s file."""
    write_atomically(path, encode_gif(video, fps, scale))


def save_mp4(path: Path | str, video: Pixels, fps: float) -> None:
    """Write `encode_mp4`'s file."""
    write_atomically(path, encode_mp4(video, fps))


def rgb(frames: Pixels) -> Pixels:
    """Frames (..., H, W, 3), from grey or colour."""
    return np.broadcast_to(frames, (*frames.shape[:-1], 3))


def _color_wheel() -> Tensor:
    """The wheel's colours (steps, 3) in [0, 1]."""
    hues = torch.tensor(HUES, dtype=torch.float32)
    arcs = [
        torch.lerp(hue, following, torch.arange(steps)[:, None] / steps)
        for hue, following, steps in zip(hues, hues.roll(-1, dims=0), HUE_STEPS, strict=True)
    ]
    return torch.cat(arcs)


def _draw_arrow(
    draw: ImageDraw.ImageDraw,
    head: tuple[float, float],
    back: list[float],
    stroke: float,
    color: tuple[int, int, int, int],
) -> None:
    """Draw an arrow that ends at `head` and starts at `head + back`, all in px of the picture."""
    length = math.hypot(*back)
    if length < SHORTEST_ARROW:
        return
    along = np.array(back) / length  # from the head backwards
    across = np.array((-along[1], along[0]))
    tip = np.array(head) - along * stroke / 2
    barb = min(0.45 * length, 7.0) + stroke
    corners = (tip, tip + along * barb + across * barb * 0.45, tip + along * barb - across * barb * 0.45)
    tail = tip + along * (length + stroke)
    draw.line(
        [tuple(SUPERSAMPLING * point) for point in (tip + along * barb / 2, tail)], color, round(SUPERSAMPLING * stroke)
    )
    draw.polygon([tuple(SUPERSAMPLING * corner) for corner in corners], fill=color)
