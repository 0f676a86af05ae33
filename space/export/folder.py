"""The published model folder: weights, architecture, ONNX files and a README that says how to use them.

    architecture.json    canonical JSON                     model.safetensors    weights (the fp32 form)
    model.onnx           fp32                               model.int8.onnx      with 8-bit layers
    preprocessing.json   what inputs need, class names      model.int4.onnx      with 4-bit layers
    README.md            how to load each of them

Nothing in it names a module of this project except the README's one way of loading the weights; the ONNX
files run anywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from ..architecture import Architecture, parse_architecture
from ..errors import InvalidInputError, nearest
from ..model import build_model
from .onnx import export_onnx, input_name
from .readme import readme

Format = Literal["torch", "onnx"]
Quantize = Literal["none", "int8"]
"""none: the architecture's own number formats. int8: every layer int8_dynamic."""

FORMATS: tuple[str, ...] = get_args(Format)
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
INT8 = "model.int8.onnx"
INT4 = "model.int4.onnx"
"""Of layers in different formats, the narrowest names the file."""


@dataclass(frozen=True, slots=True)
class ExportedFolder:
    """What was written. `files`: file name -> the architecture whose number formats it computes in."""

    path: Path
    files: Mapping[str, Architecture]
    primary: str
    """The file a user should take: the asked or searched number format where ONNX was asked for."""


def check_formats(formats: Sequence[str]) -> None:
    """Raises InvalidInputError for none or an unknown one."""
    if not formats:
        raise InvalidInputError(f"no export format given; choose of {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise InvalidInputError(f"unknown export format '{name}'; {nearest(name, FORMATS)}")


def write_folder(
    model: nn.Module,
    architecture: Architecture,
    folder: Path,
    *,
    formats: Sequence[str] = FORMATS,
    quantize: Quantize = "none",
    preprocessing: Mapping[str, Any] | None = None,
    calibration: Tensor | None = None,
) -> ExportedFolder:
    """Writes `model` (the trained fp32 form) into `folder`, which is made and should be new.

    The caller gives a temporary folder and renames it when `verify_export` has passed: what is visible is
    whole.

    Raises:
        UnsupportedError: an operator or number format has no ONNX form; the message names the block.
    """
    check_formats(formats)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = architecture.with_number_format("int8_dynamic") if quantize == "int8" else architecture
    files: dict[str, Architecture] = {}
    if "torch" in formats:
        save_model(model, str(folder / WEIGHTS))
        files[WEIGHTS] = architecture
    if "onnx" in formats:
        files |= _write_onnx(model, wanted, folder, calibration)
    primary = next(name for name in (INT4, INT8, ONNX, WEIGHTS) if name in files)
    _write_json(folder / "architecture.json", json.loads(architecture.canonical_json))
    _write_json(folder / "preprocessing.json", preprocessing or {"input": input_name(architecture)})
    text = readme(architecture, tuple(files), primary)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return ExportedFolder(folder, files, primary)


def load_folder(folder: Path) -> tuple[nn.Module, Architecture]:
    """The fp32 model of a folder that has `model.safetensors`, in evaluation mode, and its architecture."""
    architecture = parse_architecture((folder / "architecture.json").read_bytes())
    model = build_model(architecture)
    try:
        load_model(model, folder / WEIGHTS)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InvalidInputError(
            f"{folder / WEIGHTS} does not hold this architecture's weights: {error}"
        ) from error
    return model.eval(), architecture


def _write_onnx(
    model: nn.Module, wanted: Architecture, folder: Path, calibration: Tensor | None
) -> dict[str, Architecture]:
    """The fp32 file always; the file of the wanted formats where ONNX Runtime computes integers in them."""
    plain = wanted.with_number_format("fp32")
    export_onnx(model, plain, folder / ONNX)
    name = _quantized_name(wanted)
    if name is None:
        return {ONNX: plain}
    export_onnx(model, wanted, folder / name, calibration=calibration)
    return {ONNX: plain, name: wanted}


def _quantized_name(architecture: Architecture) -> str | None:
    """None where no layer is in an integer format."""
    formats = architecture.number_formats
    if any(name.startswith("int4") for name in formats):
        return INT4
    return INT8 if any(name.startswith("int8") for name in formats) else None


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
