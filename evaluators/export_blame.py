"""Which part of an exported model is not the trained one: the first layer whose output or weight differs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from space.architecture import Architecture
from space.export.layer_outputs import layer_outputs
from space.number_formats import apply_number_formats


def layer_words(architecture: Architecture, index: int) -> str:
    """How a layer is named in a message: `layer 1 (softmax, glu)`."""
    layer = architecture.layers[index]
    return f"layer {index} ({layer.mixer.kind}, {layer.feed_forward.kind})"


def guilty_weight(path: Path, model: nn.Module, architecture: Architecture) -> str | None:
    """The part whose stored weight is not the model's; None when all are."""
    expected = model.state_dict()
    with safe_open(str(path), framework="pt") as file:
        names = set(file.keys())
        for name, value in expected.items():
            if name in names and not torch.equal(file.get_tensor(name), value):
                return _part(name, architecture)
    return None


def guilty_block(
    path: Path, model: nn.Module, architecture: Architecture, values: NDArray[Any], limit: float
) -> str | None:
    """The first part of an ONNX file whose output is further from the model's than `limit` (root mean square,
    relative); None when the file's layers cannot be told apart."""
    expected = _block_outputs(apply_number_formats(model, architecture), values)
    found = layer_outputs(path, len(architecture.layers), values)
    if found is None or any(a.shape != b.shape for a, b in zip(found, expected, strict=True)):
        return None
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        scale = max(float(np.sqrt(np.mean(b.astype(np.float64) ** 2))), 1e-12)
        if not float(np.sqrt(np.mean((a - b).astype(np.float64) ** 2))) / scale <= limit:
            return layer_words(architecture, index) + (", or the embedding before it" if not index else "")
    return "the norm or head behind the last layer"


def _part(name: str, architecture: Architecture) -> str:
    first, _, rest = name.partition(".")
    if first == "blocks":
        return layer_words(architecture, int(rest.partition(".")[0]))
    return first.replace("_", " ")


def _block_outputs(running: nn.Module, values: NDArray[Any]) -> list[NDArray[Any]]:
    """Of every layer in the order they run; layers may be one module."""
    kept: list[NDArray[Any]] = []

    def keep(_block: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(output.detach().float().numpy())

    blocks = running.get_submodule("blocks")
    handles = [block.register_forward_hook(keep) for block in set(blocks.children())]
    try:
        with torch.inference_mode():
            running.eval()(torch.from_numpy(values))
    finally:
        for handle in handles:
            handle.remove()
    return kept
