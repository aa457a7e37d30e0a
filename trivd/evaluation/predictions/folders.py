"""True videos and their predictions, found in folders by name."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from trivd.data.formats.decode import is_video
from trivd.evaluation.predictions.samples import ARRAY_SUFFIXES
from trivd.runtime.errors import TrivdError
from trivd.runtime.files import json_digest

FUTURES_FILE, GRID_FILE = "futures.npz", "grid.png"  # as `trivd predict` calls them
SAMPLE = re.compile(r"sample-\d+")  # and its videos, without suffix
KINDS = ("arrays", "folders of images", "MP4s", "other videos", "GIFs")  # from the most exact to the least

Preferred = list[Path]  # files that were chosen from several of the same name


def videos_by_name(folder: Path, preferred: Preferred) -> dict[str, Path]:
    """All videos of a folder by name without suffix; of several files with one name, the most exact kind.

    Args:
        folder: folder of videos.
        preferred: is extended by the files that were chosen from several.

    Raises:
        TrivdError: there is no video, or there are two with one name and kind.
    """
    found = _most_exact(visible(folder), preferred)
    if not found:
        raise TrivdError(f"{folder} holds no videos; name the folder whose files are one video per clip.")
    return found


def predictions_by_name(folder: Path, clips: Iterable[str], preferred: Preferred) -> dict[str, list[Path]]:
    """The predictions of each clip by name: those in the folder of that name, or the one file of that name.

    Args:
        folder: with a file or a folder for each clip; or, for a single clip, what `trivd predict` wrote.
        clips: names of the clips.
        preferred: see `videos_by_name`.

    Raises:
        TrivdError: there is no video, there are two with one name and kind, or a file and a folder with one name.
    """
    if is_of_predict(folder):
        names = list(clips)
        if len(names) != 1:
            raise TrivdError(
                f"{folder} holds the futures of one clip, but there are {len(names)} true ones; name the folder that "
                "holds a folder of futures for each."
            )
        return {names[0]: samples_in(folder, preferred)}
    several = {path.name: samples_in(path, preferred) for path in inner_folders(folder)}
    single = _most_exact(visible(folder), preferred) if several else videos_by_name(folder, preferred)
    if both := sorted(set(several) & set(single)):
        raise TrivdError(
            f"{folder} holds both {single[both[0]].name} and a folder {both[0]} of samples; keep one of the two."
        )
    return several | {name: [path] for name, path in single.items()}


def clips_in_common(folders: Sequence[Path], truth: Path) -> list[str]:
    """Names of the clips of which every one of several folders has predictions.

    Raises:
        TrivdError: there is none, or see `predictions_by_name`.
    """
    true_paths = videos_by_name(truth, [])
    common = set(true_paths)
    for folder in folders:
        common &= set(predictions_by_name(folder, true_paths, []))
    if not common:
        raise TrivdError(
            f"{', '.join(map(str, folders))} and {truth} have no name in common; a prediction must be called like its "
            "true video."
        )
    return sorted(common)


def short_names(folders: Sequence[Path]) -> list[str]:
    """The ends of paths that tell folders apart, such as "a/run" and "b/run".

    Raises:
        TrivdError: a folder is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise TrivdError(f"A folder is named twice among {', '.join(map(str, folders))}; name each model's once.")


def preference(preferred: Preferred) -> list[str]:
    """A sentence about the files that were chosen from several of the same name, if there are any."""
    if not preferred:
        return []
    return [
        f"Of several files of one name the most exact is taken ({', '.join(KINDS)}), {len(preferred)} times; the "
        f"first: {preferred[0]}."
    ]


def is_of_predict(folder: Path) -> bool:
    """Whether `trivd predict` wrote a folder, in which small videos are enlarged."""
    return (folder / GRID_FILE).is_file() and bool(_videos_of_predict(folder))


def samples_in(folder: Path, preferred: Preferred) -> list[Path]:
    """The predictions of one clip, in natural order.

    Args:
        folder: with an array of them, a video for each, or what `trivd predict` wrote.
        preferred: see `videos_by_name`.

    Raises:
        TrivdError: see `videos_by_name`.
    """
    if (folder / FUTURES_FILE).is_file():
        return [folder / FUTURES_FILE]
    own = is_of_predict(folder)  # whose GIFs show the same as its MP4s: there is no choice to mention
    found = _most_exact(_videos_of_predict(folder), []) if own else videos_by_name(folder, preferred)
    return [found[name] for name in sorted(found, key=_natural)]


def _videos_of_predict(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if SAMPLE.fullmatch(path.stem)]


def _most_exact(paths: Iterable[Path], preferred: Preferred) -> dict[str, Path]:
    """Videos by name without suffix; of several files with one name, the most exact kind."""
    found: dict[str, Path] = {}
    names = set()
    for path in filter(is_video, paths):
        name = path.name if path.is_dir() else path.stem
        other = found.setdefault(name, path)
        if other is path:
            continue
        if _kind(path) == _kind(other):
            raise TrivdError(f"{path.parent} holds {other.name} and {path.name}; keep one video of each name.")
        found[name] = min(path, other, key=_kind)
        names.add(name)
    preferred += [found[name] for name in sorted(names)]
    return found


def _kind(path: Path) -> int:
    """Position among `KINDS`."""
    if path.is_dir():
        return 1
    suffix = path.suffix.lower()
    return 0 if suffix in ARRAY_SUFFIXES else {".mp4": 2, ".gif": 4}.get(suffix, 3)


def inner_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are not videos themselves, as folders of images are."""
    return [path for path in visible(folder) if path.is_dir() and not is_video(path)]


def contents_digest(paths: Iterable[Path]) -> str:
    """A digest that changes if one of some files, or of the images in some folders, is written anew."""
    files = (file for path in paths for file in (visible(path) if path.is_dir() else [path]))
    states = {str(file): file.stat() for file in files}
    return json_digest({name: [state.st_size, state.st_mtime_ns] for name, state in states.items()})


def visible(folder: Path) -> list[Path]:
    """The contents of a folder in alphabetical order, without hidden files.

    Raises:
        TrivdError: it is not a folder.
    """
    if not folder.is_dir():
        raise TrivdError(f"{folder} is not a folder of videos.")
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _natural(name: str) -> list[str | int]:
    """A sort key in which runs of digits count as numbers: text, number, text, ..."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
