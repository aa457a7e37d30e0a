"""Weights are told by their sums alone."""

import json
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from numpy.typing import NDArray

from trivd.evaluation.networks.i3d_layout import variable_shapes
from trivd.evaluation.networks.weights.identify import crc32c, identify, reference_sums

VARIABLES = Path(__file__).parents[5] / "shared" / "i3d" / "variables.json"
Arrays = dict[str, NDArray[np.float32]]


def test_the_sums_are_of_the_network_s_variables() -> None:
    assert reference_sums().keys() == variable_shapes().keys()
    assert len(set(reference_sums().values())) == 230


@pytest.mark.skipif(not VARIABLES.is_file(), reason="the shared reference values of I3D are not here")
def test_the_sums_are_the_published_ones() -> None:
    expected = {name: value["crc32c"] for name, value in json.loads(VARIABLES.read_text()).items()}
    assert reference_sums() == expected


def test_the_sum_is_over_little_endian_float32_in_c_order() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = f"{google_crc32c.value(values.tobytes()):08x}"
    assert crc32c(np.asfortranarray(values)) == expected
    assert crc32c(values.astype(">f4")) == expected
    assert crc32c(values.T) != expected


@pytest.mark.usefixtures("reference")
def test_one_value_makes_the_reference_unknown(variables: Arrays) -> None:
    found = identify(variables)
    assert (found.matching, found.is_reference) == (230, True)
    assert (found.identity.distance, found.identity.inception) == ("FVD", "IS")
    assert str(found).startswith("FVD reference")

    name = "RGB/inception_i3d/Mixed_3b/Branch_0/Conv3d_0a_1x1/batch_norm/beta"
    changed = variables[name].copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(1))
    other = identify({**variables, name: changed})
    assert (other.matching, other.is_reference) == (229, False)
    assert other.sha256 != found.sha256
    assert other.identity.distance == f"FVD (unknown I3D weights {other.sha256[:8]})"
    assert "the sums of 1 of 230 variables differ" in str(other)
    assert "rgb_imagenet" in str(other)
    assert not identify({**variables, "more": changed}).is_reference
    assert identify(dict(reversed(variables.items()))).sha256 == found.sha256


def test_fake_weights_are_not_the_reference(variables: Arrays) -> None:
    found = identify(variables)
    assert (found.matching, found.is_reference) == (0, False)
