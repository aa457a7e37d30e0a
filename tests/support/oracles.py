"""The paper's equations written out plainly, the independent answers that the tests of trivd.models compare with.

Nothing is shared with the code under test but its normalised weights; recurrent units read [h; x] as one tensor.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import ceil, isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trivd.models.recurrent import RecurrentUnit
from trivd.models.recurrent.base import Gates
from trivd.models.spectral_norm import SpectralNorm

Rho = Callable[[Tensor], Tensor]
Unrolled = tuple[Tensor, Tensor | None]  # states (T, B, C, H, W), warping weights (T, B, L, k^2, H, W)


def scramble(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Random weights and biases of several scales, in evaluation mode: no weight is orthogonal, no bias zero."""
    module = module.to(dtype).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    for layer in module.modules():
        if isinstance(layer, SpectralNorm):
            layer.power_iteration(1)
    return module


def assert_same(actual: Sequence[Tensor], expected: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """The tensors agree to 1e-9, and so do the gradients of a random functional of them w.r.t. `sources`."""
    directions = [torch.randn_like(tensor) for tensor in expected]
    gradients = []
    for tensors in (actual, expected):
        functional = sum((t * d).sum() for t, d in zip(tensors, directions, strict=True))
        gradients.append(torch.autograd.grad(functional, sources))  # raises if a source was not used
    for a, e in zip([*actual, *gradients[0]], [*expected, *gradients[1]], strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


# --- Layers


def conv(layer: SpectralNorm, *inputs: Tensor) -> Tensor:
    """The 2D or 3D convolution of the concatenated inputs with zero padding."""
    convolve = F.conv2d if layer.weight.dim() == 4 else F.conv3d
    return convolve(torch.cat(inputs, 1), layer.normalized_weight(), layer.bias, padding=layer.weight.shape[-1] // 2)


def linear(layer: SpectralNorm, x: Tensor) -> Tensor:
    return x @ layer.normalized_weight().T + layer.bias


def adaptive_max(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size); bin i covers rows floor(i H / size) to ceil((i + 1) H / size) - 1."""
    height, width = x.shape[-2:]
    bins = [
        x[..., i * height // size : ceil((i + 1) * height / size), j * width // size : ceil((j + 1) * width / size)]
        for i, j in product(range(size), repeat=2)
    ]
    return torch.stack([part.amax((-2, -1)) for part in bins], -1).unflatten(-1, (size, size))


def softmax(x: Tensor, dim: int) -> Tensor:
    return x.exp() / x.exp().sum(dim, keepdim=True)


# --- Warping (B)


def warp(h: Tensor, weights: Tensor) -> Tensor:
    """Eq 11."""
    height, width = h.shape[-2:]
    k = isqrt(weights.shape[1])
    positions = []
    for i, j in product(range(height), range(width)):
        total = torch.zeros_like(h[:, :, 0, 0])
        for m, n in product(range(k), repeat=2):
            row, column = i + m - (k - 1) // 2, j + n - (k - 1) // 2
            if 0 <= row < height and 0 <= column < width:
                total = total + weights[:, m * k + n, i, j].unsqueeze(1) * h[:, :, row, column]
        positions.append(total)
    return torch.stack(positions, -1).unflatten(-1, (height, width))


def factorize(kernels: Tensor, selection: Tensor) -> Tensor:
    """Eq 12: w (B, k^2, N), S (B, N, H, W) -> W (B, k^2, H, W)."""
    return torch.stack(
        [
            sum(selection[:, n] * kernels[:, q, n, None, None] for n in range(selection.shape[1]))
            for q in range(kernels.shape[1])
        ],
        1,
    )


def kernel_weights(unit: RecurrentUnit, gates: dict[str, SpectralNorm], h: Tensor, x: Tensor) -> Tensor:
    """f (F.1): warping weights (B, L, k^2, H, W)."""
    f = unit.kernels
    features = F.relu(conv(gates["kernel_features"], h, x))
    if "selection" not in gates:  # pixelwise: a resolution-preserving CNN of two hidden layers
        return softmax(conv(f.output, F.relu(conv(f.hidden, features))), 1).unsqueeze(1)
    raw_selection = conv(gates["selection"], h, x)
    raw_kernels = linear(f.output, F.relu(linear(f.hidden, adaptive_max(features, 4).flatten(1))))
    taps = isqrt(raw_kernels.shape[1] // f.links)
    links = []
    for link in range(f.links):
        each = [raw_kernels[:, (link * taps + n) * taps : (link * taps + n + 1) * taps] for n in range(taps)]
        kernels = torch.stack([softmax(raw, 1) for raw in each], 2)  # (B, k^2, N)
        selection = softmax(raw_selection[:, link * taps : (link + 1) * taps], 1)
        links.append(factorize(kernels, selection))
    return torch.stack(links, 1)


# --- Recurrent units; each takes the unit, rho, x (T, B, C, H, W) and the first state


def gates_of(unit: RecurrentUnit) -> dict[str, SpectralNorm]:
    """The convolutions W_name of a unit."""
    return {
        name: layer
        for gates in unit.modules()
        if isinstance(gates, Gates)
        for name, layer in gates.convolutions.items()
    }


def conv_gru(unit: RecurrentUnit, rho: Rho, x: Tensor, h: Tensor) -> Unrolled:
    gates, states = gates_of(unit), []
    for x_t in x:
        r = torch.sigmoid(conv(gates["r"], h, x_t))  # Eq 1
        reset = r * h  # Eq 2
        c = rho(conv(gates["c"], reset, x_t))  # Eq 3
        u = torch.sigmoid(conv(gates["u"], h, x_t))  # Eq 4
        h = u * h + (1 - u) * c  # Eq 5
        states.append(h)
    return torch.stack(states), None


def k_traj_gru(unit: RecurrentUnit, rho: Rho, x: Tensor, h: Tensor) -> Unrolled:
    gates, states, weights = gates_of(unit), [], []
    for x_t in x:
        theta = kernel_weights(unit, gates, h, x_t)  # Eq 16
        warped = torch.cat([warp(h, theta[:, link]) for link in range(theta.shape[1])], 1)  # Eq 17
        r = torch.sigmoid(conv(gates["r"], warped, x_t))  # Eq 18
        reset = r * warped  # Eq 19
        c = rho(conv(gates["c"], reset, x_t))  # Eq 20
        u = torch.sigmoid(conv(gates["u"], warped, x_t))  # Eq 21
        h = u * h + (1 - u) * c  # Eq 22
        states.append(h)
        weights.append(theta)
    return torch.stack(states), torch.stack(weights)


def tsru(unit: RecurrentUnit, rho: Rho, x: Tensor, h: Tensor, flow: str, read_gate: bool) -> Unrolled:
    gates, states, weights = gates_of(unit), [], []
    for x_t in x:
        theta = kernel_weights(unit, gates, h, x_t)  # Eq 6
        warped = warp(h, theta[:, 0])  # Eq 7
        read = h if flow == "p" else warped
        if read_gate:  # not in the paper but for its mention (F.2)
            read = torch.sigmoid(conv(gates["r"], h, x_t)) * read
        c = rho(conv(gates["c"], read, x_t))  # Eq 8, or TSRU_p's
        pre = conv(unit.update, warped, c) if flow == "s" else conv(gates["u"], h, x_t)
        u = torch.sigmoid(pre)  # Eq 9, or TSRU_s's
        h = u * warped + (1 - u) * c  # Eq 10
        states.append(h)
        weights.append(theta)
    return torch.stack(states), torch.stack(weights)


def lstm_step(i: Tensor, f: Tensor, o: Tensor, g: Tensor, m: Tensor, rho: Rho) -> tuple[Tensor, Tensor]:
    """New hidden state and memory cell, from pre-activations (Hochreiter and Schmidhuber 1997, tanh become rho)."""
    m = torch.sigmoid(f) * m + torch.sigmoid(i) * rho(g)
    return torch.sigmoid(o) * rho(m), m


def conv_lstm(unit: RecurrentUnit, rho: Rho, x: Tensor, state: Tensor) -> Unrolled:
    gates, states = gates_of(unit), []
    half = state.shape[1] // 2
    h, m = state[:, :half], state[:, half:]  # F.3: the first and the second half of the encoding
    for x_t in x:
        i, f, o, g = (conv(gates[name], h, x_t) for name in ("input", "forget", "output", "content"))
        h, m = lstm_step(i, f, o, g, m, rho)
        states.append(torch.cat([h, m], 1))
    return torch.stack(states), None


def dynamic_conv_lstm(unit: RecurrentUnit, rho: Rho, x: Tensor, state: Tensor) -> Unrolled:
    """F.4: one small network maps every difference F_t[i] - F_{t-1}[j] to the kernels from channel i to channel j."""
    cnn, size, states = unit.kernel_cnn, unit.kernel_size, []
    half = state.shape[1] // 2
    multiple = x.shape[2] // half  # q
    h, m = state[:, :half], state[:, half:]
    previous = state[:, :half]
    for x_t in x:
        current = x_t[:, :half]
        raw: dict[tuple[int, int], Tensor] = {}
        for i, j in product(range(half), repeat=2):
            maps = F.relu(conv(cnn.features, (current[:, i] - previous[:, j]).unsqueeze(1)))
            raw[i, j] = linear(cnn.output, adaptive_max(maps, 4).flatten(1)).view(-1, 4, multiple + 1, size, size)
        sums = {j: sum(raw[i, j].exp() for i in range(half)) for j in range(half)}
        kernel = {(i, j): raw[i, j].exp() / sums[j] for i, j in raw}  # softmax over the input channels i
        read = torch.cat([h, x_t], 1)
        gates = []
        for gate in range(4):
            samples = []
            for b in range(x.shape[1]):
                outputs = [
                    torch.stack([kernel[i, j][b, gate, p] for p in range(multiple + 1) for i in range(half)])
                    for j in range(half)
                ]
                bias = unit.bias[gate * half : (gate + 1) * half]
                samples.append(F.conv2d(read[b], torch.stack(outputs), bias, padding=size // 2))
            gates.append(torch.stack(samples))
        i, f, o, g = gates
        h, m = lstm_step(i, f, o, g, m, rho)
        states.append(torch.cat([h, m], 1))
        previous = current
    return torch.stack(states), None


# --- Blocks (A; Brock et al. 2019)


def upsample(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


def average_pool(x: Tensor, size: int = 2) -> Tensor:
    """Means of size x size pixels of the two last dimensions."""
    return x.unflatten(-1, (-1, size)).unflatten(-3, (-1, size)).mean((-3, -1))


def frame_norm(norm: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    """Batch normalisation of each step of x (T, B, C, H, W) on its own (A, E.2)."""
    steps = []
    for x_t in x:
        normalized = F.batch_norm(x_t, None, None, training=True, eps=1e-5)
        if isinstance(norm.scale, SpectralNorm):
            scale, offset = 1 + linear(norm.scale, condition), linear(norm.offset, condition)
        else:
            scale, offset = norm.scale.unsqueeze(0), norm.offset.unsqueeze(0)
        steps.append(normalized * scale[..., None, None] + offset[..., None, None])
    return torch.stack(steps)


def g_block(block: nn.Module, x: Tensor, condition: Tensor, up: bool) -> Tensor:
    """(T, B, in, H, W) -> (T, B, out, H', W')."""
    outputs = []
    resize = upsample if up else (lambda features: features)
    first = F.relu(frame_norm(block.norm1, x, condition))
    middle = torch.stack([conv(block.conv1, resize(h)) for h in first])
    second = F.relu(frame_norm(block.norm2, middle, condition))
    for x_t, h in zip(x, second, strict=True):
        skip = resize(x_t)
        if isinstance(block.shortcut, SpectralNorm):
            skip = conv(block.shortcut, skip)
        outputs.append(conv(block.conv2, h) + skip)
    return torch.stack(outputs)


def d_block(block: nn.Module, x: Tensor, activate: bool, pool: bool) -> Tensor:
    h = conv(block.conv2, F.relu(conv(block.conv1, F.relu(x) if activate else x)))
    skip = x
    if pool:  # both branches are pooled, the shortcut before its convolution
        h, skip = average_pool(h), average_pool(skip)
    if isinstance(block.shortcut, SpectralNorm):
        skip = conv(block.shortcut, skip)
    return h + skip
