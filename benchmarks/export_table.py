"""The table of docs/exports.md from what `export_formats` measured; stands alone, for `make docs`."""

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "export_formats.json"
FILES = ("model.py", "model.pt2", "modeling_paretoformer.py", "model.onnx", "step.onnx")
"""Columns of the table; `modeling_paretoformer.py` is the Hugging Face folder."""


def table(path: Path = RESULT) -> list[list[str]]:
    """How many architectures have each file; then choice -> the largest difference over those that have it.

    A cell is empty where no such architecture has the file, and says how many were refused where some were.
    """
    rows = list(json.loads(path.read_text(encoding="utf-8"))["rows"].values())
    choices = sorted({choice for row in rows for choice in row["choices"]})
    written = [file for row in rows for one in row["formats"].values() for file in one.get("files", {})]
    # an export for transformers has the code of `torch` too
    counts = [str(min(written.count(file), len(rows))) for file in FILES]
    return [
        ["architectures", *counts],
        *(
            [choice, *(_cell([row for row in rows if choice in row["choices"]], file) for file in FILES)]
            for choice in choices
        ),
    ]


def _cell(rows: list[dict[str, Any]], file: str) -> str:
    formats = {"model.py": "torch", "model.pt2": "torch-export", "modeling_paretoformer.py": "hf"}
    done = [row["formats"][name] for row in rows if (name := formats.get(file, "onnx")) in row["formats"]]
    found = [one["files"][file]["largest_relative"] for one in done if file in one.get("files", {})]
    refused = 0 if file == "step.onnx" else sum("error" in one for one in done)
    largest = (f"{max(found):.0e}" if max(found) else "0") if found else ""
    return f"{largest} ({refused} refused)".strip() if refused else largest
