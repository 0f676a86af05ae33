"""int8 with activation ranges fixed in advance: QuantizeLinear and DequantizeLinear around every linear map.

    y = scale_x scale_w (q_x - z_x) q_w,   q_x = clip(round(x / scale_x) + z_x, 0, 255)

`scale_x` and `z_x` from the smallest and largest x of a calibration batch, one pair per tensor; int8 weights
per output channel. Dynamic int8 looks for these two numbers in every call. The linear maps are those that the
number formats of this project quantize; products of two activations, norms, embedding and head stay float32.

Source of the operators: Jacob et al. 2018, arXiv:1712.05877; written by ONNX Runtime's quantization tools.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from ..architecture import Architecture
from ..errors import UnsupportedError
from ..number_formats import apply_number_formats
from .onnx import input_name, written_whole

BATCH = 8
"""Calibration examples per call."""
PRODUCTS = ("MatMul", "Gemm")


def write_static_int8(
    model: nn.Module, architecture: Architecture, source: Path, path: Path, *, calibration: Tensor | None
) -> Path:
    """Writes `source`, the float32 file of `model`, with static int8 linear maps; returns `path`.

    Raises:
        UnsupportedError: there is nothing to fix the ranges from, or no linear map to quantize.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    if calibration is None:
        raise UnsupportedError("int8-static needs inputs of the task to fix its ranges; choose int8")
    graph = _with_shared_weights(onnx.load(source))
    chosen = linear_nodes(graph, apply_number_formats(model, architecture.with_number_format("fp32")))
    if not chosen:
        raise UnsupportedError("int8-static: no layer has a linear map to quantize; choose none")
    add_pre_process_metadata(graph)  # else the tools advise it in the log of every export
    with written_whole(path) as unfinished:
        quantize_static(
            graph,
            unfinished,
            _Batches(input_name(architecture), calibration.numpy()),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_quantize=chosen,
            # sums leave a product as float32, which ONNX Runtime fuses into it
            extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
        )
    return path


def _with_shared_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of several calls under one name: the exporter gives them others by operators that copy."""
    graph = model.graph
    constants = {weight.name for weight in graph.initializer}
    copies = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in constants
    }
    kept = [node for node in graph.node if node.output[0] not in copies]
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = copies.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)
    return model


def linear_nodes(graph: onnx.ModelProto, running: nn.Module) -> list[str]:
    """Names of the products in a file that are linear maps of layers which a number format may quantize."""
    constants = {weight.name for weight in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in PRODUCTS and node.input[1] in constants and _may_be_quantized(node.name, running)
    ]


def _may_be_quantized(name: str, running: nn.Module) -> bool:
    """`/blocks.0/mixer/qkv/MatMul` is a product of the module `blocks.0.mixer.qkv`; calls of a shared module
    after the first have a number behind one of the names."""
    *scope, _ = name.strip("/").split("/")
    if not scope or not scope[0].startswith("blocks."):
        return False
    for parts in (scope, [re.sub(r"_\d+$", "", part) for part in scope]):
        try:
            module = running.get_submodule(".".join(parts))
        except AttributeError:
            continue
        return isinstance(module, nn.Linear) and not getattr(module, "keeps_float", False)
    return False


class _Batches:
    """What ONNX Runtime's tools read: one mapping of inputs per call, None at the end."""

    def __init__(self, name: str, examples: NDArray[Any]) -> None:
        self._feeds: Iterator[dict[str, NDArray[Any]]] = iter(
            [{name: np.ascontiguousarray(part)} for part in _parts(examples)]
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def _parts(examples: NDArray[Any]) -> Sequence[NDArray[Any]]:
    return [examples[first : first + BATCH] for first in range(0, len(examples), BATCH)]
