"""Every choice in every export format: how far an exported file is from the model it was made of.

    python -m benchmarks.export_formats [--count 30] [--only FORMAT] [--json FILE]

Architectures that together have every choice (`covering`), at random weights with every parameter moved, are
exported in every format, and every file is run in a fresh process that has its own runtime alone, on three
lengths and two batch sizes. Per file the largest difference of the logits over the root mean square of the
model's, and its root mean square; a file with 4-bit weights is compared with eager torch on the same weights.
A format that a model cannot have says why. Results are written after every architecture, and rows
that are there already are not computed again.

The table of docs/exports.md is made of the result by `make docs`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluators.export_check import verify_export
from evaluators.latency.target import device_facts
from space.architecture import Architecture
from space.choice import Scheduled
from space.errors import ServiceError
from space.export import Quantize, write_folder
from space.model import Model, build_model

from .covering import choices_of, covering, missing

FORMATS: dict[str, tuple[str, Quantize]] = {
    "torch": ("torch", "none"),
    "torch-export": ("torch-export", "none"),
    "hf": ("hf", "none"),
    "onnx": ("onnx", "none"),
    "onnx-int8": ("onnx", "int8"),
    "onnx-int4": ("onnx", "int4"),
}
"""Name -> format and `--quantize`. `code` is the model.py of `torch`."""
RESULT = Path(__file__).parent / "results" / "export_formats.json"


def moved_model(architecture: Architecture, seed: int) -> Model:
    """Fresh weights, every one of them moved, and every schedule at its end: no part is silent."""
    model = build_model(architecture, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, Scheduled) and not isinstance(module, Model):
                module.set_progress(1.0)
    return model


def differences(model: nn.Module, architecture: Architecture, name: str) -> dict[str, Any]:
    """File -> difference, seconds and size; `error` where there is no such file for this model."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as folder:
        try:
            asked, quantize = FORMATS[name]
            exported = write_folder(
                model, architecture, Path(folder) / "out", formats=[asked], quantize=quantize
            )
            written = time.perf_counter() - start
            report = verify_export(exported, model)
        except ServiceError as error:
            return {"error": error.message, "seconds": time.perf_counter() - start}
    files = {
        file: {key: facts[key] for key in ("largest_relative", "rms_relative", "size_bytes")}
        for file, facts in report["files"].items()
    }
    return {"files": files, "seconds": written}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--only", choices=FORMATS)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    architectures = covering(options.count)
    assert not missing(architectures), missing(architectures)
    found = json.loads(options.json.read_text()) if options.json.exists() else {"rows": {}}
    for seed, architecture in enumerate(architectures):
        row = found["rows"].setdefault(
            architecture.id,
            {
                "model": architecture.model,
                "choices": sorted(choices_of(architecture)),
                "architecture": architecture.model_dump(mode="json"),
                "formats": {},
            },
        )
        model = moved_model(architecture, seed)
        for name in (options.only,) if options.only else FORMATS:
            if name not in row["formats"]:
                row["formats"][name] = differences(model, architecture, name)
                told = row["formats"][name].get("error") or {
                    file: f"{facts['largest_relative']:.1e}"
                    for file, facts in row["formats"][name]["files"].items()
                }
                print(seed, architecture.id[:8], name, told, flush=True)
        found["machine"] = device_facts()
        found["date"] = time.strftime("%Y-%m-%d")
        options.json.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
