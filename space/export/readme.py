"""The model card of a folder: what the model is, its numbers with their conditions, how each file is used."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..architecture import Architecture, BytesInterface, ImageInterface, ValuesInterface
from ..choice import Choice
from .huggingface import CONFIG, CONFIGURATION, MODELING, TOKENIZER, auto_class
from .onnx import input_name
from .onnx_files import ONNX_WORDS
from .python_files import CODE, DEPLOYED, DEPLOYED_WEIGHTS, WEIGHTS
from .snippets import code_part, huggingface_part, onnx_part, program_part, torch_part
from .step_snippet import step_part
from .torch_export import PROGRAM

WORDS = {
    WEIGHTS: "weights of the trained form, float32 (safetensors)",
    CODE: "the model as one Python file, without this project",
    DEPLOYED: "the same in the number formats that were evaluated",
    DEPLOYED_WEIGHTS: "weights of `deployed.py`",
    PROGRAM: "the model as a torch.export program, in the number formats that were evaluated",
    CONFIG: "sizes, and which classes transformers takes",
    CONFIGURATION: "the class of that config",
    MODELING: "the model as transformers wants it",
    **dict.fromkeys(TOKENIZER, "one token per byte"),
    **ONNX_WORDS,
    "architecture.json": "what the model is, layer by layer",
    "preprocessing.json": "how inputs were prepared, and the names of classes where there are any",
    "export_report.json": "how every file was checked, its size and its SHA-256",
}
"""What each file of a folder is."""


def readme(architecture: Architecture, files: Sequence[str], primary: str, card: Mapping[str, Any]) -> str:
    """Markdown. `card` as in `write_folder`; snippets run in the folder with the packages they name."""
    parts = [_front_matter(architecture, card)] if MODELING in files else []
    parts += [f"# Model {architecture.id[:12]}", _summary(architecture), *_facts(card)]
    parts += ["## Inputs and outputs", _axes(architecture), "## Files", _table(files)]
    if primary.endswith(".onnx"):
        parts.append(onnx_part(architecture, primary))
    steps = (primary.replace("model.", "step."), "step.onnx") if primary.endswith(".onnx") else ()
    if step := next((name for name in steps if name in files), ""):
        parts.append(step_part(architecture, step))
    if WEIGHTS in files:
        parts.append(torch_part(architecture, files))
    elif CODE in files:
        parts.append(code_part(files))
    if PROGRAM in files:
        parts.append(program_part(architecture))
    if MODELING in files:
        parts.append(huggingface_part(architecture, files))
    return "\n\n".join(parts) + "\n"


def _front_matter(architecture: Architecture, card: Mapping[str, Any]) -> str:
    """What the model hub reads."""
    pipelines = {
        "AutoModelForCausalLM": "text-generation",
        "AutoModelForImageClassification": "image-classification",
        "AutoModelForSequenceClassification": "text-classification",
    }
    lines = [
        "---",
        f"license: {card.get('license') or 'unknown'}",
        "library_name: transformers",
        *([f"pipeline_tag: {pipelines[auto_class(architecture)]}"] if _is_plain_input(architecture) else []),
        "tags: [paretoformer, custom_code]",
        "---",
    ]
    return "\n".join(lines)


def _is_plain_input(architecture: Architecture) -> bool:
    """Text and images have pipelines; sequences of numbers have none."""
    return not isinstance(architecture.interface, ValuesInterface)


def _summary(architecture: Architecture) -> str:
    layers = [
        f"{index}. {_config(layer.mixer)}, {_config(layer.feed_forward)}, {layer.norm.kind}, "
        f"{layer.number_format}"
        for index, layer in enumerate(architecture.layers, start=1)
    ]
    sharing = "" if architecture.sharing.kind == "none" else f", weights shared: {architecture.sharing.kind}"
    head = (
        f"A {architecture.model} of {len(layers)} layer{'s' if len(layers) > 1 else ''}, "
        f"width {architecture.d_model}, position {architecture.position.kind}{sharing}, found by "
        "paretoformer. Layers, with the number format the search chose:"
    )
    return "\n".join([head, "", *layers])


def _config(choice: Choice) -> str:
    """Kind and settings, for example `mlp (activation gelu, d_ff 256)`."""
    fields = choice.model_dump()
    settings = ", ".join(f"{key} {value}" for key, value in fields.items() if key != "kind")
    return f"{fields['kind']} ({settings})" if settings else str(fields["kind"])


def _facts(card: Mapping[str, Any]) -> list[str]:
    """Sections for what is known of the training and the search."""
    if not card:
        return []
    trained = [("Task", "task"), ("Data digest", "data_digest"), ("Training", "training"), ("Seeds", "seeds")]
    lines = [f"- {title}: {_told(card[key])}" for title, key in trained if card.get(key)]
    licence = card.get("license") or "none was stated by whoever exported it"
    parts = ["## Training", "\n".join([*lines, f"- License: {licence}"])]
    if card.get("numbers"):
        parts += ["## Numbers", _numbers(card["numbers"])]
    found = [f"- Found by: {card['found']}"] if card.get("found") else []
    found += [f"- {key.capitalize()}: {_told(value)}" for key, value in card.get("lineage", {}).items()]
    if found:
        parts += ["## How it was found", "\n".join(found)]
    if card.get("beats"):
        parts += ["## What it beats", "\n".join(f"- {line}" for line in card["beats"])]
    return parts


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table; a column that no number fills is left out."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "number": lambda row: str(row.get("name", "")),
        "value": _value,
        "95 % interval": lambda row: f"{row['low']:.4g} to {row['high']:.4g}" if "low" in row else "",
        "kind": lambda row: str(row.get("kind", "")),
        "part": lambda row: str(row.get("part", "")),
        "seeds": lambda row: str(row.get("seeds", "")),
        "conditions": lambda row: str(row.get("conditions", "")),
    }
    filled = {title: [cell(row) for row in rows] for title, cell in columns.items()}
    filled = {title: cells for title, cells in filled.items() if any(cells)}
    lines = ["| " + " | ".join(filled) + " |", "|" + " --- |" * len(filled)]
    lines += ["| " + " | ".join(cells) + " |" for cells in zip(*filled.values(), strict=True)]
    return "\n".join(lines)


def _value(row: Mapping[str, Any]) -> str:
    value = row.get("value", "")
    number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
    return f"{number} {row.get('unit', '')}".strip()


def _axes(architecture: Architecture) -> str:
    axes = {
        BytesInterface: "int64 token ids [batch, length]",
        ValuesInterface: "float32 [batch, length, channels]",
        ImageInterface: "float32 [batch, channels, height, width]",
    }[type(architecture.interface)]
    free = (
        "Batch is free"
        if isinstance(architecture.interface, ImageInterface)
        else f"Batch and length are free, length up to {architecture.tokens}"
    )
    per_token = "[batch, length, outputs]" if architecture.head.kind == "language" else "[batch, outputs]"
    return (
        f"Input `{input_name(architecture)}`: {axes}. Output `logits`: {per_token}. {free}. "
        "Every snippet below runs in this folder."
    )


def _table(files: Sequence[str]) -> str:
    weights = [DEPLOYED_WEIGHTS] if DEPLOYED in files and WEIGHTS in files else []
    names = dict.fromkeys((*files, *weights, "architecture.json", "preprocessing.json"))
    return "\n".join(f"- `{name}`: {WORDS[name]}" for name in names)
