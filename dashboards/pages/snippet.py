"""How an exported model is used, format by format, and the command that exports it.

The words and lines are those of the model card in the exported folder, which run there as printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.records import JobRecord, TrialRecord
from space.architecture import Architecture, parse_architecture
from space.export import quantized_name
from space.export.huggingface import TOKENIZER
from space.export.onnx_files import EVERY_LAYER, INT8_STATIC, ONNX
from space.export.snippets import code_part, huggingface_part, onnx_part, program_part, torch_part

FENCE = "```"


@dataclass(frozen=True, slots=True)
class Usage:
    """How one format is used: paragraphs and code in turn, as (is code, text)."""

    format: str
    title: str
    parts: tuple[tuple[bool, str], ...]


def usages(architecture: Mapping[str, Any], quantize: str = "none") -> list[Usage]:
    """One for every format, the usual ones first. `quantize`: of the export they are meant for."""
    known = parse_architecture(architecture)
    cards = (
        ("onnx", onnx_part(known, _onnx_file(known, quantize))),
        ("torch", torch_part(known, ())),
        ("torch-export", program_part(known)),
        ("hf", huggingface_part(known, TOKENIZER)),
        ("code", code_part(())),
    )
    return [_usage(name, text) for name, text in cards]


def _onnx_file(architecture: Architecture, quantize: str) -> str:
    """The file in the number formats that were asked for."""
    if quantize == "int8-static":
        return INT8_STATIC
    every = EVERY_LAYER.get(quantize)
    return quantized_name(architecture.with_number_format(every) if every else architecture) or ONNX


def _usage(name: str, card: str) -> Usage:
    """A part of a card: a heading, then paragraphs and fenced code."""
    heading, _, body = card.partition("\n\n")
    pieces = body.split(FENCE)
    parts = []
    for place, piece in enumerate(pieces):
        text = piece.removeprefix("python").strip("\n") if place % 2 else piece.strip()
        if text:
            parts.append((bool(place % 2), text.replace("`", "") if not place % 2 else text))
    return Usage(name, heading.removeprefix("## "), tuple(parts))


def export_command(job: JobRecord, trial: TrialRecord) -> str:
    """The same export from the command line."""
    return f"paretoformer export {job.id[:8]} --pick {trial.label} --format torch,onnx --out model"
