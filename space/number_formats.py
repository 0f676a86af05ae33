"""A trained model in the number formats of its architecture."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .architecture import Architecture
from .deploy import deployed
from .norm_conversion import ExportNorm
from .quantization import Format, number_format


def apply_number_formats(
    model: nn.Module,
    architecture: Architecture,
    *,
    calibration: Tensor | None = None,
    export_norm: ExportNorm = "keep",
) -> nn.Module:
    """A copy in its deployed form, in which the linear maps of every layer run in that layer's format.

    These are the `nn.Linear` anywhere inside a block, but for those with `keeps_float` set. Depthwise
    kernels, embedding, positions, norms and head stay float32. A map that several layers share is converted
    once, in the format of the first. `export_norm` as in `deploy`.

    `calibration`: a batch of the model's inputs, for formats that fix something from data (`int8_mixed`: its
    outlier inputs). Without it nothing is fixed.
    """
    converted = deployed(model, architecture, export_norm=export_norm)
    peaks = None if calibration is None else input_peaks(converted, calibration)
    blocks = converted.get_submodule("blocks")
    done: dict[nn.Module, nn.Module] = {}
    for index, layer in enumerate(architecture.layers):
        _convert_linears(blocks.get_submodule(str(index)), number_format(layer.number_format), peaks, done)
    return converted


def input_peaks(model: nn.Module, inputs: Tensor) -> dict[nn.Module, Tensor]:
    """Every `nn.Linear` of a model -> the largest |x| of each of its inputs while the model runs once.

    A map that saw nothing (an expert without tokens) has zeros.
    """
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    peaks: dict[nn.Module, Tensor] = {
        linear: torch.zeros(linear.in_features, device=linear.weight.device) for linear in linears
    }

    def note(linear: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        rows = arguments[0].detach().abs().flatten(0, -2).float()
        if len(rows):
            peaks[linear] = torch.maximum(peaks[linear], rows.amax(dim=0))

    handles = [linear.register_forward_pre_hook(note) for linear in linears]
    try:
        with torch.inference_mode():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {linear: peak.clone() for linear, peak in peaks.items()}


def _convert_linears(
    module: nn.Module,
    form: Format,
    peaks: Mapping[nn.Module, Tensor] | None,
    done: dict[nn.Module, nn.Module],
) -> None:
    """`named_children` would skip the second name of a shared map."""
    for name, child in list(module._modules.items()):
        if isinstance(child, nn.Linear):
            if getattr(child, "keeps_float", False):
                continue
            if child not in done:
                done[child] = form.convert(child, None if peaks is None else peaks[child])
            setattr(module, name, done[child])
        elif child is not None:
            _convert_linears(child, form, peaks, done)
