"""I3D is recognised by content, names or order, and what is not I3D is refused with the reason."""

import numpy as np
import pytest
from cost_checks import cheaply
from i3d_files import as_arrays, hassony2, piergiaj, units
from numpy.typing import NDArray

from trivd.evaluation.networks.weights.mapping import recognise
from trivd.evaluation.networks.weights.readers.child import LONGEST_NAME, MOST_TENSORS
from trivd.runtime.errors import TrivdError

Arrays = dict[str, NDArray[np.float32]]
SCOPE = "RGB/inception_i3d/"


def assert_recognised(tensors: Arrays, variables: Arrays, how: str) -> None:
    found = recognise(tensors, "the file")
    assert found.how == how
    assert found.variables.keys() == variables.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(found.variables[name], value)


def unnamed(tensors: Arrays) -> Arrays:
    return {f"tensor.{position}": tensor for position, tensor in enumerate(tensors.values())}


def shuffled(tensors: Arrays) -> Arrays:
    names = np.random.default_rng(0).permutation(list(tensors))
    return {str(name): tensors[str(name)] for name in names}


@pytest.mark.parametrize("prefix", ["", "module.", "model.i3d."])
def test_the_known_conversions_are_recognised_by_name(variables: Arrays, prefix: str) -> None:
    for names in (piergiaj, hassony2):
        tensors = {prefix + name: tensor for name, tensor in as_arrays(names(variables)).items()}
        assert_recognised(shuffled(tensors), variables, "names")
    slots = {f"{name}/Momentum": value for name, value in variables.items()}
    assert_recognised({**variables, **slots}, variables, "names")


@pytest.mark.usefixtures("reference")
def test_the_reference_is_recognised_whatever_its_names_and_order(variables: Arrays) -> None:
    assert_recognised(unnamed(shuffled(as_arrays(piergiaj(variables)))), variables, "content")
    assert_recognised(unnamed(shuffled(variables)), variables, "content")
    names = list(variables)
    deceptive = dict(zip(names, [variables[name] for name in reversed(names)], strict=True))
    assert_recognised(deceptive, variables, "content")
    tensors = as_arrays(piergiaj(variables))
    norm = [f"Conv3d_1a_7x7.bn.{name}" for name in ("weight", "bias")]
    swapped = dict(zip(norm, [tensors[name] for name in reversed(norm)], strict=True))
    assert_recognised({**tensors, **swapped}, variables, "content")


def test_unnamed_tensors_are_recognised_by_order(variables: Arrays) -> None:
    for names in (piergiaj, hassony2):
        tensors = as_arrays(names(variables))
        assert_recognised(unnamed(tensors), variables, "order and shapes")
        ungained = {
            name: value for name, value in tensors.items() if not name.endswith(("bn.weight", "batch3d.weight"))
        }
        assert_recognised(unnamed(ungained), variables, "order and shapes")
    names = list(tensors)
    mean = names.index("mixed_4c.branch_0.batch3d.running_mean")
    names[mean : mean + 2] = reversed(names[mean : mean + 2])  # a variance is not negative, so this order is another
    for other in (shuffled(tensors), {name: tensors[name] for name in names}):
        with pytest.raises(TrivdError, match="fit neither by content nor by name nor by order"):
            recognise(unnamed(other), "the file")


def test_gains_are_folded_so_that_the_network_is_the_same(variables: Arrays) -> None:
    tensors = as_arrays(piergiaj(variables))
    unit = "Mixed_3c/Branch_1/Conv3d_0b_3x3"
    gain = np.linspace(-2, 2, 192, dtype=np.float32)
    tensors["Mixed_3c.b1b.bn.weight"] = gain
    found = recognise(tensors, "the file").variables
    rng = np.random.default_rng(0)
    patch = rng.normal(size=(3, 3, 3, 128))

    def unit_output(values: Arrays, factor: NDArray[np.float32]) -> NDArray[np.float64]:
        kernel, beta, mean, variance = (
            values[f"{SCOPE}{unit}/{name}"].astype(np.float64)
            for name in ("conv_3d/w", "batch_norm/beta", "batch_norm/moving_mean", "batch_norm/moving_variance")
        )
        convolved = np.einsum("thwi,thwio->o", patch, kernel)
        return (factor * (convolved - mean) / np.sqrt(variance + 1e-3) + beta).reshape(-1)

    np.testing.assert_allclose(unit_output(found, np.float32(1)), unit_output(variables, gain), rtol=1e-5, atol=1e-5)
    changed = {name for name in variables if not np.array_equal(found[name], variables[name])}
    assert changed == {f"{SCOPE}{unit}/conv_3d/w", f"{SCOPE}{unit}/batch_norm/moving_mean"}


@pytest.mark.usefixtures("reference")
def test_a_gain_is_not_lost_where_the_rest_is_the_reference(variables: Arrays) -> None:
    tensors = as_arrays(piergiaj(variables))
    tensors["Conv3d_1a_7x7.bn.weight"] = np.full(64, 2, np.float32)
    found = recognise(tensors, "the file").variables
    kernel = f"{SCOPE}Conv3d_1a_7x7/conv_3d/w"
    np.testing.assert_array_equal(found[kernel], 2 * variables[kernel])
    with pytest.raises(TrivdError, match="no place in I3D, such as tensor"):
        recognise(unnamed(tensors), "the file")


def test_what_is_missing_is_named(variables: Arrays) -> None:
    tensors = as_arrays(hassony2(variables))
    del tensors["mixed_5b.branch_2.1.batch3d.running_var"]
    with pytest.raises(TrivdError, match=r"the file lacks 1 of .*/Mixed_5b/Branch_2/Conv3d_0a_3x3/batch_norm/moving_v"):
        recognise(tensors, "the file")


def test_folded_batch_norm_is_named(variables: Arrays) -> None:
    tensors = {name: value for name, value in as_arrays(piergiaj(variables)).items() if "bn." not in name}
    tensors |= {f"{name}.conv3d.bias": np.ones(3, np.float32) for _, name, _ in units()}
    with pytest.raises(TrivdError, match=r"lacks 171 of .* was folded into the convolutions"):
        recognise(tensors, "the file")


def test_other_networks_are_refused(variables: Arrays) -> None:
    tensors = as_arrays(piergiaj(variables))
    head = {"logits.conv3d.weight": np.zeros((157, 1024, 1, 1, 1), np.float32)}
    with pytest.raises(TrivdError, match=r"logits.conv3d.weight .* \(157, 1024, 1, 1, 1\), .* last layer was replaced"):
        recognise(tensors | head, "the file")
    with pytest.raises(TrivdError, match=r"no place in I3D, such as decoder\.weight"):
        recognise(tensors | {"decoder.weight": np.zeros((3, 3), np.float32)}, "the file")
    with pytest.raises(TrivdError, match="convolutions with a bias"):
        recognise(tensors | {"Mixed_3b.b0.conv3d.bias": np.ones(64, np.float32)}, "the file")
    with pytest.raises(TrivdError, match=r"Mixed_3b.b0.bn.weight .* 3 values"):
        recognise(tensors | {"Mixed_3b.b0.bn.weight": np.ones(3, np.float32)}, "the file")
    with pytest.raises(TrivdError, match="holds I3D twice"):
        recognise(tensors | {f"ema.{name}": value for name, value in tensors.items()}, "the file")
    with pytest.raises(TrivdError, match=r"does not hold I3D: its 0 .* \(none"):
        recognise({}, "the file")
    for value in (np.nan, -1):
        with pytest.raises(TrivdError, match="impossible values"):
            recognise(tensors | {"Mixed_3b.b0.bn.running_var": np.full(64, value, np.float32)}, "the file")


def test_names_without_end_take_no_time() -> None:
    value = np.zeros(3, np.float32)
    with cheaply(), pytest.raises(TrivdError, match="a tensor with 2,000,001 characters"):
        recognise({"a." * 1_000_000 + "x": value}, "the file")
    for ending in ("x", "bn.bias"):
        dotted = {f"{number}{'.' * (LONGEST_NAME - 20)}{ending}": value for number in range(MOST_TENSORS)}
        with cheaply(), pytest.raises(TrivdError, match="does not hold I3D"):
            recognise(dotted, "the file")


def test_many_tensors_of_the_last_layer_s_shape_take_no_time() -> None:
    biases = {f"{'bias' * 50}{number}": np.zeros(400, np.float32) for number in range(20_000)}
    with cheaply(), pytest.raises(TrivdError, match="does not hold I3D"):
        recognise(biases, "the file")
