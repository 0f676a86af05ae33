"""Architecture and weights -> one ONNX file in the architecture's number formats.

Input `tokens` int64 [batch, length], or `values` float32 [batch, length, channels] or [batch, channels,
height, width]; output `logits`. Batch and length are free. The same model gives the same bytes.

The TorchScript exporter is used: it writes a model of 4 layers in about 0.1 s, torch.export's in several
seconds. How each number format is written: `products`.
"""

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import onnx
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from ..architecture import Architecture, ImageInterface, ValuesInterface
from ..errors import UnsupportedError
from ..norm_conversion import ExportNorm
from ..number_formats import apply_number_formats
from ..quantization import NumberFormat, number_format
from .products import onnx_form

OPSET = 17
RUNTIME = "onnxruntime"
DynamicAxes = Mapping[str, Mapping[int, str]]


def export_onnx(
    model: nn.Module,
    architecture: Architecture,
    path: Path,
    *,
    calibration: Tensor | None = None,
    export_norm: ExportNorm = "keep",
) -> Path:
    """Writes `model` (the fp32 form, trained or not) in `architecture`'s number formats; returns `path`.

    `calibration`: a batch of inputs that fixes int8_mixed's outliers; without it that format has none.
    `export_norm`: "rms" or "crms" writes the layer norms of a pre-norm model in a cheaper exact form.

    Raises:
        UnsupportedError: a block has an operator or number format without ONNX form; the message names it.
    """
    require_onnx_formats(architecture)
    name, example = example_input(architecture)
    length = {1: "length"} if architecture.interface.input != "image" else {}
    logits_length = {1: "length"} if architecture.head.kind == "language" else {}
    axes = {name: {0: "batch", **length}, "logits": {0: "batch", **logits_length}}
    converted = apply_number_formats(model, architecture, calibration=calibration, export_norm=export_norm)
    running = onnx_form(converted)
    with written_whole(path) as unfinished:
        try:
            export_module(running, (name, example), "logits", axes, unfinished)
        except UnsupportedError as error:
            raise UnsupportedError(f"{_guilty_block(model, architecture)}: {error.message}") from error
    return path


def require_onnx_formats(architecture: Architecture) -> None:
    """Raises UnsupportedError when a layer's number format has no ONNX Runtime form."""
    for index, layer in enumerate(architecture.layers):
        if number_format(layer.number_format).execution(RUNTIME) != "real":
            names = [
                name for name in get_args(NumberFormat) if number_format(name).execution(RUNTIME) == "real"
            ]
            raise UnsupportedError(
                f"layer {index}: number format '{layer.number_format}' has no ONNX Runtime CPU form; "
                f"choose {', '.join(names[:-1])} or {names[-1]}"
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
    """Writes one module of one float32 or int64 input and one output; raises as `export_graph`."""
    name, example = named_input
    export_graph(module, {name: example}, [output], axes, path)


def export_graph(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], axes: DynamicAxes, path: Path
) -> None:
    """Writes one module; `inputs`: example tensors by name, in the order of its arguments.

    Raises:
        UnsupportedError: the exporter has no ONNX form for one of its operators.
    """
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode(), _exporter_warnings_silenced():
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={key: dict(value) for key, value in axes.items()},
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UnsupportedError(f"no ONNX form: {_first_line(error)}") from error
    finally:
        module.train(was_training)
    _without_traces(path)


def _guilty_block(model: nn.Module, architecture: Architecture) -> str:
    """Which part of a model has no ONNX form: the first block that cannot be exported alone."""
    blocks: Sequence[nn.Module] = list(getattr(model, "blocks", []))
    x = torch.zeros(2, architecture.tokens, architecture.d_model)
    free = {0: "batch"} if architecture.interface.input == "image" else {0: "batch", 1: "length"}
    axes = {"x": free, "y": free}
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
def written_whole(path: Path) -> Iterator[Path]:
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


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return re.sub(r"\s+", " ", text.splitlines()[0])[:300]
