"""Figures of the paper that ours stand beside; steps, times and memory of Table 1 are in presets and benchmarks."""

from typing import get_args

from trivd.config import Decomposition, Unit
from trivd.presets import TABLE2_UNITS

# Table 1, columns FVD and IS.
TABLE1_FVD: dict[Decomposition, float] = {
    "clip": 59.6,
    "downsampled": 122.1,
    "cropped": 159.9,
    "cropped_downsampled": 44.1,
    "mocogan_k1": 47.4,
    "mocogan_k8": 46.2,
    "dvd_gan_fp": 55.0,
    "faster": 46.1,
    "stronger": 39.3,
}
TABLE1_IS: dict[Decomposition, float] = {
    "clip": 10.9,
    "downsampled": 8.9,
    "cropped": 9.4,
    "cropped_downsampled": 11.5,
    "mocogan_k1": 11.3,
    "mocogan_k8": 11.4,
    "dvd_gan_fp": 10.9,
    "faster": 11.7,
    "stronger": 11.8,
}
assert set(TABLE1_FVD) == set(TABLE1_IS) == set(get_args(Decomposition))

# Table 2.
TABLE2_FVD: dict[Unit, float] = dict(zip(TABLE2_UNITS, (51.3, 49.4, 45.9, 44.2, 43.7, 45.8, 47.1), strict=True))
TABLE2_IS: dict[Unit, float] = dict(zip(TABLE2_UNITS, (11.4, 11.4, 11.6, 11.6, 11.5, 11.6, 11.5), strict=True))

COPY_FVD = 330  # on the validation set of Kinetics-600 (D.3)
