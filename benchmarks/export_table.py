"""The table of docs/exports.md from what `export_formats` measured; stands alone, for `make docs`."""

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "export_formats.json"
FILES = {
    "model.py": ("torch", "largest_relative"),
    "model.pt2": ("torch-export", "largest_relative"),
    "modeling_paretoformer.py": ("hf", "largest_relative"),
    "model.onnx": ("onnx", "largest_relative"),
    "step.onnx": ("onnx", "largest_relative"),
    "model.int8.onnx": ("onnx-int8", "rms_relative"),
    "model.int4.onnx": ("onnx-int4", "largest_relative"),
}
"""Columns of the table: file -> the export it is of, and which difference is shown.
`modeling_paretoformer.py` is the Hugging Face folder."""


def table(path: Path = RESULT) -> list[list[str]]:
    """How many architectures have each file; then choice -> the largest difference over those that have it.

    A cell is empty where no such architecture has the file, and says how many were refused where some were.
    """
    rows = list(json.loads(path.read_text(encoding="utf-8"))["rows"].values())
    choices = sorted({choice for row in rows for choice in row["choices"]})
    counts = [str(sum(file in _files(row, name) for row in rows)) for file, (name, _) in FILES.items()]
    return [
        ["architectures", *counts],
        *(
            [choice, *(_cell([row for row in rows if choice in row["choices"]], file) for file in FILES)]
            for choice in choices
        ),
    ]


def _files(row: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = row["formats"].get(name, {}).get("files", {})
    return found


def _cell(rows: list[dict[str, Any]], file: str) -> str:
    name, difference = FILES[file]
    found = [files[file][difference] for row in rows if file in (files := _files(row, name))]
    refused = 0 if file == "step.onnx" else sum("error" in row["formats"].get(name, {}) for row in rows)
    largest = (f"{max(found):.0e}" if max(found) else "0") if found else ""
    return f"{largest} ({refused} refused)".strip() if refused else largest
