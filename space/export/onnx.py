"""Architecture and weights -> one ONNX file in the architecture's number formats.

Input `tokens` int64 [batch, length], or `values` float32 [batch, length, channels] or [batch, channels,
height, width]; output `logits`. Batch and length are free. The same model gives the same bytes.

The TorchScript exporter is used: it writes a model of 4 layers in about 0.1 s, torch.export's in several
seconds. int8_dynamic is ONNX Runtime's dynamic quantization of the layer's matrix products with constant
weights: int8 weights per output channel, uint8 activations per tensor (the eager form is symmetric per token:
same accuracy class, other bits).
"""

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from ..architecture import Architecture, ImageInterface, ValuesInterface
from ..errors import UnsupportedError
from ..quantization import number_format

OPSET = 17
DynamicAxes = Mapping[str, Mapping[int, str]]


def export_onnx(model: nn.Module, architecture: Architecture, path: Path) -> Path:
    """Writes `model` (the fp32 form, trained or not) in `architecture`'s number formats; returns `path`.

    Raises:
        UnsupportedError: a block has an operator or number format without ONNX form; the message names it.
    """
    require_onnx_formats(architecture)
    name, example = example_input(architecture)
    length = {1: "length"} if architecture.interface.input != "image" else {}
    logits_length = {1: "length"} if architecture.head.kind == "language" else {}
    axes = {name: {0: "batch", **length}, "logits": {0: "batch", **logits_length}}
    int8_layers = [
        index for index, layer in enumerate(architecture.layers) if layer.number_format == "int8_dynamic"
    ]
    prefixes = tuple(f"/blocks.{index}/" for index in int8_layers)
    with _written_whole(path) as unfinished:
        try:
            export_module(model, (name, example), "logits", axes, unfinished)
        except UnsupportedError as error:
            raise UnsupportedError(f"{_guilty_block(model, architecture)}: {error.message}") from error
        if prefixes:
            quantize_matmuls(unfinished, lambda node: node.startswith(prefixes))
    return path


def require_onnx_formats(architecture: Architecture) -> None:
    """Raises UnsupportedError when a layer's number format has no ONNX Runtime form."""
    for index, layer in enumerate(architecture.layers):
        if "onnxruntime" not in number_format(layer.number_format).real_on:
            raise UnsupportedError(
                f"layer {index}: number format '{layer.number_format}' has no ONNX Runtime CPU form; "
                "choose fp32 or int8_dynamic"
            )


def input_name(architecture: Architecture) -> str:
    return "tokens" if architecture.interface.input == "bytes" else "values"


def input_shape(architecture: Architecture, batch_size: int, tokens: int | None = None) -> tuple[int, ...]:
    """Shape of an input of `tokens` tokens (all of the context by default; images have one size)."""
    interface = architecture.interface
    if isinstance(interface, ImageInterface):
        return (batch_size, interface.channels, interface.height, interface.width)
    length = tokens or architecture.tokens
    if isinstance(interface, ValuesInterface):
        return (batch_size, length, interface.channels)
    return (batch_size, length)


def example_input(architecture: Architecture) -> tuple[str, Tensor]:
    """Name and a full-length batch of two of the model's input."""
    shape = input_shape(architecture, 2)
    if architecture.interface.input == "bytes":
        return "tokens", torch.zeros(shape, dtype=torch.int64)
    return "values", torch.zeros(shape)


def export_module(
    module: nn.Module, named_input: tuple[str, Tensor], output: str, axes: DynamicAxes, path: Path
) -> None:
    """Writes one float32 module of one input and one output.

    Raises:
        UnsupportedError: the exporter has no ONNX form for one of its operators.
    """
    name, example = named_input
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode(), _exporter_warnings_silenced():
            torch.onnx.export(
                module,
                (example,),
                str(path),
                input_names=[name],
                output_names=[output],
                dynamic_axes={key: dict(value) for key, value in axes.items()},
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UnsupportedError(f"no ONNX form: {_first_line(error)}") from error
    finally:
        module.train(was_training)
    _without_traces(path)


def quantize_matmuls(path: Path, chosen: Callable[[str], bool]) -> int:
    """Rewrites the file with the chosen products with constant weights in dynamic int8; how many they are."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # 0.2 s, and only int8 needs it

    graph = onnx.load(path).graph
    constants = {weight.name for weight in graph.initializer}
    names = [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and chosen(node.name) and node.input[1] in constants
    ]
    if not names:
        return 0
    with _quantizer_advice_silenced():
        quantize_dynamic(
            str(path), str(path), per_channel=True, weight_type=QuantType.QInt8, nodes_to_quantize=names,
            op_types_to_quantize=["MatMul", "Gemm"],
        )  # fmt: skip
    return len(names)


def _guilty_block(model: nn.Module, architecture: Architecture) -> str:
    """Which part of a model has no ONNX form: the first block that cannot be exported alone."""
    blocks: Sequence[nn.Module] = list(getattr(model, "blocks", []))
    x = torch.zeros(2, architecture.tokens, architecture.d_model)
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as folder:
        for index, (block, layer) in enumerate(zip(blocks, architecture.layers, strict=True)):
            try:
                export_module(block, ("x", x), "y", axes, Path(folder) / "block.onnx")
            except UnsupportedError:
                return f"layer {index} ({layer.mixer.kind}, {layer.feed_forward.kind})"
    return "embedding, position or head"


def _without_traces(path: Path) -> None:
    """Takes out what the exporter writes of this machine's source files: bytes depend on the model only."""
    model = onnx.load(path)
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, path)


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place only when everything went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _exporter_warnings_silenced() -> Iterator[None]:
    """It says that it is the older one, that constants are constants, and what it did not fold."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", message="constant folding", category=UserWarning)
        yield


@contextmanager
def _quantizer_advice_silenced() -> Iterator[None]:
    """The quantizer advises a pre-processing step on the root logger; it matters for convolutions only."""
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return re.sub(r"\s+", " ", text.splitlines()[0])[:300]
