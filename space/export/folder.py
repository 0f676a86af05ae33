"""The published model folder: weights, code, programs, ONNX files and a model card.

    architecture.json    canonical JSON                     preprocessing.json   what inputs need, class names
    model.safetensors    weights (the fp32 form)            model.py             the model as code of its own
    deployed.*           the same in its number formats     model.pt2            torch.export's program
    model.onnx           fp32; others: see `onnx_files`     config.json, ...     Hugging Face transformers
    README.md            the model card: what it is, its numbers, how to use each file

Nothing in it names a module of this project: every file runs with its own runtime alone.
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
from .huggingface import MODELING, write_huggingface
from .onnx import input_name
from .onnx_files import EVERY_LAYER, NARROWEST_FIRST, write_onnx_files
from .python_files import CODE, DEPLOYED, WEIGHTS, has_deployed, model_source, write_deployed
from .readme import readme
from .step import STEP_STATE
from .torch_export import PROGRAM, export_program

Format = Literal["torch", "code", "torch-export", "onnx", "hf"]
Quantize = Literal["none", "int8", "int8-static", "int4"]
"""none: the architecture's own number formats. int8: every layer int8_dynamic."""

FORMATS: tuple[str, ...] = get_args(Format)
USUAL: tuple[Format, ...] = ("torch", "onnx")
USEFUL_FIRST = (*NARROWEST_FIRST, PROGRAM, MODELING, WEIGHTS, DEPLOYED, CODE)


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
    formats: Sequence[str] = USUAL,
    quantize: Quantize = "none",
    preprocessing: Mapping[str, Any] | None = None,
    calibration: Tensor | None = None,
    card: Mapping[str, Any] | None = None,
) -> ExportedFolder:
    """Writes `model` (the trained fp32 form) into `folder`, which is made and should be new.

    `card`: facts for the model card; all keys are optional, and what is missing leaves its lines out:

        task        what it was trained for, one line          data_digest   of the data set
        numbers     rows of a table, mappings of `name`, `value`, `unit`, `kind` (measured, computed,
                    predicted), `part` (validation, test), `seeds`, `low`, `high`, `conditions`
        seeds       of the trainings                           training      one line: steps, stage, teacher
        lineage     mapping of words, such as job, trial, origin, parents
        found       how, one line                              beats         lines: which reference, how much
        license     SPDX id; without one the card says that none was stated

    The caller gives a temporary folder and renames it when `verify_export` has passed: what is visible is
    whole.

    Raises:
        UnsupportedError: an operator or number format has no ONNX form; the message names the block.
    """
    check_formats(formats)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Architecture] = {}
    if {"torch", "hf"} & set(formats):
        save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
        files[WEIGHTS] = architecture
    if {"torch", "code", "hf"} & set(formats):
        (folder / CODE).write_text(model_source(architecture), encoding="utf-8")
        files[CODE] = architecture.with_number_format("fp32")
    every = EVERY_LAYER.get(quantize)
    wanted = architecture.with_number_format(every) if every else architecture
    if {"torch", "code"} & set(formats) and has_deployed(wanted):
        # code alone finds outliers in every call: frozen ones would need the weights they belong to
        seen, has_weights = (calibration, True) if WEIGHTS in files else (None, False)
        write_deployed(model, wanted, folder, calibration=seen, weights=has_weights)
        files[DEPLOYED] = wanted
    if "torch-export" in formats:
        export_program(model, wanted, folder / PROGRAM, calibration=calibration)
        files[PROGRAM] = wanted
    beside: tuple[str, ...] = ()
    if "hf" in formats:
        beside = write_huggingface(architecture, folder, classes=(preprocessing or {}).get("classes", ()))
        files[MODELING] = architecture.with_number_format("fp32")
    if "onnx" in formats:
        files |= write_onnx_files(model, architecture, folder, quantize=quantize, calibration=calibration)
        beside = (*beside, *((STEP_STATE,) if (folder / STEP_STATE).exists() else ()))
    primary = next(name for name in USEFUL_FIRST if name in files)
    _write_json(folder / "architecture.json", json.loads(architecture.canonical_json))
    _write_json(folder / "preprocessing.json", preprocessing or {"input": input_name(architecture)})
    text = readme(architecture, (*files, *beside), primary, card or {})
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


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
