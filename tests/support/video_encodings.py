"""Videos encoded in all the ways that FFmpeg knows, drawn at random, and which of their frames are read wrongly."""

import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec import Codec
from numpy.typing import NDArray

from trivd.data.formats.decode import VideoFile, probe, read_frames
from trivd.data.formats.frames import FrameConverter

MPEG = ("libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video")
COMMON = (*MPEG, *MPEG, "libvpx", "libvpx-vp9", "libsvtav1")
RARE = (
    *("libx264rgb", "flv", "wmv1", "wmv2", "msmpeg4", "msmpeg4v2", "h261", "h263", "h263p", "mjpeg", "ljpeg", "ffv1"),
    *("ffvhuff", "huffyuv", "utvideo", "magicyuv", "prores", "prores_ks", "dnxhd", "dvvideo", "cfhd", "apng", "qtrle"),
    *("rpza", "smc", "png", "cinepak", "svq1", "snow", "dirac", "vc2", "jpeg2000", "rawvideo", "msvideo1", "msrle"),
    *("zmbv", "flashsv", "flashsv2", "speedhq", "asv1", "asv2", "amv", "rv10", "rv20", "roqvideo", "cljr", "dxv"),
    *("r210", "v210", "v410"),
)
STREAMS = (".mpg", ".vob", ".ts", ".m2ts")  # that FFmpeg fills with anything, but reads MPEG's codecs alone from
SUFFIXES = (
    *(4 * (".mp4", ".mkv", ".avi")),
    *(2 * (".mov", ".webm", ".mpg", ".ts")),
    *(".vob", ".m2ts", ".flv", ".wmv", ".gif", ".mxf", ".dv", ".3gp", ".h264", ".h265", ".m2v", ".m4v", ".ivf"),
)
OWN = {".gif": "gif", ".dv": "dvvideo", ".h264": "libx264", ".h265": "libx265", ".m2v": "mpeg2video", ".m4v": "mpeg4"}
LARGE = {"dnxhd": (720, 1280), "dvvideo": (576, 720)}  # that take no small frames
WITH_B = ("libx264", "libx264rgb", "libx265", "mpeg4", "mpeg2video", "mpeg1video")
DIVX = b"\x00\x00\x01\xb2DivX503b1393p"  # user data by which decoders know packed frames
UNCODED = b"\x00\x00\x01\xb6\x50\x00"  # an MPEG-4 frame that says it is not coded, as stands in for one packed before


class Unencodable(Exception):  # noqa: N818
    """FFmpeg refuses this combination."""


@dataclass(frozen=True)
class Encoding:
    """One way to encode a video."""

    codec: str
    suffix: str
    gop: int
    b_frames: int
    is_closed: bool  # no frame refers to one beyond a keyframe
    is_variable: bool  # rate
    is_fragmented: bool
    is_interlaced: bool
    is_packed: bool  # B-frames lie with their reference in one packet, as DivX and XviD write them
    frames: int
    seed: int

    def options(self) -> dict[str, str]:
        """The encoder's."""
        options = {"g": str(self.gop)} | ({"bf": str(self.b_frames)} if self.codec in WITH_B else {})
        flags = "+ildct+ilme" if self.is_interlaced and self.codec in ("mpeg2video", "mpeg4", "libx264") else ""
        match self.codec:
            case "libx264" | "libx264rgb":
                options |= {"preset": "veryfast", "x264-params": f"open-gop={int(not self.is_closed)}"}
            case "libx265":
                options |= {"preset": "ultrafast"}
                options |= {"x265-params": f"log-level=none:open-gop={int(not self.is_closed)}:bframes={self.b_frames}"}
            case "mpeg4" | "mpeg2video" | "mpeg1video" if self.is_closed:
                flags, options["sc_threshold"] = flags + "+cgop", "1000000000"
            case "libvpx" | "libvpx-vp9":
                options |= {"deadline": "realtime", "lag-in-frames": "16", "auto-alt-ref": "1", "b": "300k"}
            case "libsvtav1":
                options |= {"preset": "12"}
            case "dnxhd":
                options |= {"b": "90M"}
        return options | ({"flags": flags} if flags else {})


def draw(rng: random.Random) -> Encoding:
    """A random one; FFmpeg refuses more than half of them."""
    suffix = rng.choice(SUFFIXES)
    codec = OWN.get(suffix) or rng.choice(MPEG if suffix in STREAMS else COMMON if rng.random() < 0.6 else RARE)
    return Encoding(
        codec,
        suffix,
        rng.choice((1, 5, 12, 30)),
        rng.randrange(4),
        rng.random() < 0.5,
        rng.random() < 0.3,
        suffix in (".mp4", ".mov") and rng.random() < 0.4,
        rng.random() < 0.2,
        codec == "mpeg4" and suffix in (".avi", ".mkv", ".mp4") and rng.random() < 0.5,
        12 if codec in LARGE else rng.choice((3, 20, 45)),
        rng.randrange(1 << 30),
    )


def encode(path: Path, encoding: Encoding) -> None:
    """Write a video of noise that moves.

    Raises:
        Unencodable: FFmpeg refuses it.
    """
    height, width = LARGE.get(encoding.codec, (144, 176))
    rate = 50 if encoding.codec == "dnxhd" else 25
    moving = {"movflags": "frag_keyframe+empty_moov"} if encoding.is_fragmented else {}
    try:
        with av.open(str(path), "w", options=moving) as container:
            stream: Any = container.add_stream(encoding.codec, rate=rate, options=encoding.options())
            stream.height, stream.width = height, width
            formats = [layout.name for layout in Codec(encoding.codec, "w").video_formats or ()]
            stream.pix_fmt = "yuv420p" if "yuv420p" in formats or not formats else formats[0]
            frames = _frames(encoding, height, width)
            packets = [packet for frame in frames for packet in stream.encode(frame)] + stream.encode(None)
            for packet in _packed(packets, stream) if encoding.is_packed else packets:
                container.mux(packet)
    except (av.error.FFmpegError, ValueError, TypeError, OverflowError) as error:
        raise Unencodable(f"{encoding}: {error}") from error


def wrong_frames(path: Path) -> list[int]:
    """Numbers of the frames that, read alone, are not those that a reading from the beginning gives."""
    whole = list(VideoFile(path).frames(0, 1, FrameConverter(None, 3)))
    if len(whole) != probe(path).frames:
        return [min(len(whole), probe(path).frames)]
    alone = (read_frames(path, number, 1, 1, short_side=None, channels=3)[0] for number in range(len(whole)))
    return [
        n for n, (found, expected) in enumerate(zip(alone, whole, strict=True)) if not np.array_equal(found, expected)
    ]


def _frames(encoding: Encoding, height: int, width: int) -> list[av.VideoFrame]:
    rng = np.random.default_rng(encoding.seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    texture: NDArray[np.uint8] = coarse.repeat(8, axis=0).repeat(8, axis=1)
    time, frames = 0, []
    for number in range(encoding.frames):
        frame = av.VideoFrame.from_ndarray(np.roll(texture, 3 * number, axis=1), "rgb24")
        if encoding.is_variable:
            time += int(rng.integers(1, 6))
            frame.pts, frame.time_base = time, Fraction(1, 25)
        frames.append(frame)
    return frames


def _is_b(payload: bytes) -> bool:
    """Whether the first frame of an MPEG-4 packet refers to both sides."""
    return payload[payload.find(UNCODED[:4]) + 4] >> 6 == 2


def _packed(packets: list[av.Packet], stream: Any) -> list[av.Packet]:
    """Each packet before B-frames with the first of these in it, in whose place there is a frame that is not coded."""
    payloads = [bytes(packet) for packet in packets]
    if len(payloads) > 1:
        at = payloads[0].find(b"\x00\x00\x01\xb6")
        payloads[0] = payloads[0][:at] + DIVX + payloads[0][at:]
    for number in range(1, len(payloads)):
        if _is_b(payloads[number]) and not _is_b(payloads[number - 1]) and payloads[number - 1] != UNCODED:
            payloads[number - 1] += payloads[number]
            payloads[number] = UNCODED
    packed = []
    for packet, payload in zip(packets, payloads, strict=True):
        new = av.Packet(payload)
        new.stream, new.time_base, new.dts, new.pts = stream, packet.time_base, packet.dts, packet.dts
        new.is_keyframe = packet.is_keyframe
        packed.append(new)
    return packed
