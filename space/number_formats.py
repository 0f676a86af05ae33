"""A trained model in the number formats of its architecture."""

import copy

from torch import nn

from .architecture import Architecture
from .quantization import Format, number_format


def apply_number_formats(model: nn.Module, architecture: Architecture) -> nn.Module:
    """A copy in which the linear maps of every layer run in that layer's format; for inference.

    These are the maps that ONNX dynamic quantization of the layer's constant matrix products converts:
    projections of the mixer and the feed-forward. Depthwise kernels, embedding, positions, norms and head
    stay float32.
    """
    converted = copy.deepcopy(model).eval().requires_grad_(False)
    for block, layer in zip(converted.get_submodule("blocks").children(), architecture.layers, strict=True):
        _convert_linears(block, number_format(layer.number_format))
    return converted


def _convert_linears(module: nn.Module, form: Format) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, form.convert(child))
        else:
            _convert_linears(child, form)
