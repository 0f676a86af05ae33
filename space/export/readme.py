"""The README of a published model folder: what it is, and snippets that run as they stand."""

from collections.abc import Sequence

from ..architecture import Architecture, BytesInterface, ImageInterface, ValuesInterface
from ..choice import Choice
from .onnx import input_name, input_shape

DESCRIPTIONS = {
    "model.safetensors": "weights in float32 (safetensors)",
    "model.onnx": "the model in float32",
    "model.int8.onnx": "the model with dynamic int8 matrix products; export_report.json says in which layers",
    "model.int4.onnx": "the model with 4-bit weights; export_report.json says the number formats",
    "architecture.json": "what the model is, layer by layer",
    "preprocessing.json": "how inputs were prepared, and the names of classes where there are any",
}


def readme(architecture: Architecture, files: Sequence[str], primary: str) -> str:
    """Markdown. The ONNX snippet needs numpy and onnxruntime; the torch snippet needs paretoformer."""
    parts = [f"# Model {architecture.id[:12]}", _summary(architecture), "## Files", _table(files)]
    if primary.endswith(".onnx"):
        parts += ["## Run it", _onnx_words(architecture, primary), _onnx_snippet(architecture, primary)]
        parts += [_fixed_words(), _fixed_snippet(primary)]
    if "model.safetensors" in files:
        parts += ["## Load the weights", _torch_snippet()]
    return "\n\n".join(parts) + "\n"


def _summary(architecture: Architecture) -> str:
    layers = [
        f"{index}. {_config(layer.mixer)}, {_config(layer.feed_forward)}, {layer.norm.kind}, "
        f"{layer.number_format}"
        for index, layer in enumerate(architecture.layers, start=1)
    ]
    head = (
        f"A {architecture.model} of {len(layers)} layer{'s' if len(layers) > 1 else ''}, "
        f"width {architecture.d_model}, position {architecture.position.kind}, found by paretoformer. "
        "Layers, with the number format the search chose:"
    )
    return "\n".join([head, "", *layers])


def _config(choice: Choice) -> str:
    """Kind and settings, for example `mlp (activation gelu, d_ff 256)`."""
    fields = choice.model_dump()
    settings = ", ".join(f"{key} {value}" for key, value in fields.items() if key != "kind")
    return f"{fields['kind']} ({settings})" if settings else str(fields["kind"])


def _table(files: Sequence[str]) -> str:
    names = [*files, "architecture.json", "preprocessing.json"]
    return "\n".join(f"- `{name}`: {DESCRIPTIONS[name]}" for name in names)


def _onnx_words(architecture: Architecture, primary: str) -> str:
    axes = {
        BytesInterface: "int64 token ids [batch, length]",
        ValuesInterface: "float32 [batch, length, channels]",
        ImageInterface: "float32 [batch, channels, height, width]",
    }[type(architecture.interface)]
    free = (
        "Batch is free"
        if isinstance(architecture.interface, ImageInterface)
        else (f"Batch and length are free, length up to {architecture.tokens}")
    )
    per_token = "[batch, length, outputs]" if architecture.head.kind == "language" else "[batch, outputs]"
    return (
        f"`{primary}` needs `pip install onnxruntime` and nothing else. "
        f"Input `{input_name(architecture)}`: {axes}. "
        f"Output `logits`: {per_token}. {free}. Run it in this folder:"
    )


def _onnx_snippet(architecture: Architecture, primary: str) -> str:
    return f"""```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{primary}")
inputs = {_numpy_input(architecture)}
logits = session.run(["logits"], {{"{input_name(architecture)}": inputs}})[0]
print(logits.shape, logits.argmax(-1).ravel()[-1])
```"""


def _fixed_words() -> str:
    return (
        "That session takes any batch and length. One that takes a single shape is faster; "
        "the stated latency is that of such a one:"
    )


def _fixed_snippet(primary: str) -> str:
    return f"""```python
options = onnxruntime.SessionOptions()
for axis, size in zip(("batch", "length"), inputs.shape):
    options.add_free_dimension_override_by_name(axis, size)
session = onnxruntime.InferenceSession("{primary}", options)
```"""


def _numpy_input(architecture: Architecture) -> str:
    interface = architecture.interface
    if not isinstance(interface, BytesInterface):
        return f"np.zeros({input_shape(architecture, 1)}, np.float32)"
    if interface.vocab_size >= 256 and architecture.tokens >= 8:
        return 'np.frombuffer(b"def main", np.uint8).astype(np.int64)[None]'
    return f"np.zeros({input_shape(architecture, 1)}, np.int64)"


def _torch_snippet() -> str:
    return """The weights are the trained float32 form; `paretoformer`, installed, builds the module.

```python
from pathlib import Path
from space.export import load_folder
model, architecture = load_folder(Path("."))
print(architecture.id, sum(p.numel() for p in model.parameters()))
```"""
