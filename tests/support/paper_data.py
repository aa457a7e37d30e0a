"""A few small videos in the layouts of the paper's data sets."""

from pathlib import Path

from video_files import numbered_frames, write_video

CLASSES = ("Archery", "Bowling")
SPLITS = {"train": "train", "val": "validate", "test": "test"}  # folders of Kinetics-600, and the splits in its lists


def write_kinetics(root: Path, videos: int = 4, frames: int = 32) -> Path:
    """Kinetics-600: `videos` of `frames` frames in each split, and the lists."""
    for number, (folder, split) in enumerate(SPLITS.items()):
        rows = ["label,youtube_id,time_start,time_end,split"]
        for video in range(videos):
            name = f"{folder.upper():A<9}{number}{video}"
            rows.append(f"{CLASSES[video % 2].lower()},{name},0,10,{split}")
            write_video(root / folder / f"{name}_000000_000010.mp4", numbered_frames(frames, 64, 80)[video:])
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{folder}.csv").write_text("\n".join([*rows, ""]))
    return root


def write_ucf101(root: Path, videos: int = 4, frames: int = 32) -> Path:
    """UCF-101: `videos` of `frames` frames in list 1 for training, and as many for tests."""
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(CLASSES, start=1)))
    for group, split in enumerate(("train", "test"), start=1):
        names = [f"{CLASSES[i % 2]}/v_{CLASSES[i % 2]}_g0{group}_c0{i}.avi" for i in range(videos)]
        labels = [f" {i % 2 + 1}" if split == "train" else "" for i in range(videos)]
        lines = (f"{name}{label}\n" for name, label in zip(names, labels, strict=True))
        (lists / f"{split}list01.txt").write_text("".join(lines))
        for number, name in enumerate(names):
            write_video(root / "UCF-101" / name, numbered_frames(frames, 64, 80)[number:])
    return root
