"""What number formats change of a network's activations.

noise_l = sum ||Y_l - Y_l^q||^2 / sum ||Y_l||^2        Y_l after block l, and the logits; sums over examples
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.number_formats import apply_number_formats


def quantization_noise(
    model: nn.Module,
    architecture: Architecture,
    x: Tensor,
    chunks: Sequence[slice],
    *,
    calibration: Tensor | None = None,
) -> tuple[float, ...]:
    """Of an untrained or a trained model against itself in the number formats of `architecture`, with what
    they fix from `calibration`."""
    if set(architecture.number_formats) == {"fp32"}:
        return (0.0,) * (len(architecture.layers) + 1)
    plain = apply_number_formats(model, architecture.with_number_format("fp32"))
    quantized = apply_number_formats(model, architecture, calibration=calibration)
    error: list[float] = []
    size: list[float] = []
    for chunk in chunks:
        pairs = zip(_states(plain, x[chunk]), _states(quantized, x[chunk]), strict=True)
        for place, (exact, rounded) in enumerate(pairs):
            if len(error) <= place:
                error.append(0.0)
                size.append(0.0)
            error[place] += float((exact.double() - rounded.double()).square().sum())
            size[place] += float(exact.double().square().sum())
    return tuple(e / s if s > 0.0 else float("nan") for e, s in zip(error, size, strict=True))


@torch.no_grad()
def _states(model: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """After every block, then the logits."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen.append(output)

    blocks = model.get_submodule("blocks")
    with ExitStack() as hooks:
        for block in dict.fromkeys(blocks.children()):
            hooks.callback(block.register_forward_hook(note).remove)
        seen.append(model(x))
    return iter(seen)
