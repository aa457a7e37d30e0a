"""Where parts of a picture are."""

from trivd.pictures.draw import enlarge
from trivd.runtime.pixels import Pixels


def places(picture: Pixels, frame: Pixels, scale: int = 2) -> list[tuple[int, int]]:
    """Top left corners (row, column) where a frame (H, W, 3), enlarged, is in a picture (height, width, 3)."""
    patch = enlarge(frame, scale)
    height, width = patch.shape[:2]
    corners = (picture == patch[0, 0]).all(axis=-1).nonzero()
    return [
        (int(y), int(x))
        for y, x in zip(*corners, strict=True)
        if (picture[y : y + height, x : x + width].shape == patch.shape)
        and (picture[y : y + height, x : x + width] == patch).all()
    ]
