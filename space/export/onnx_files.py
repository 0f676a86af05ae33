"""The ONNX files of one export: which there are, and in which number formats each computes.

    model.onnx        always: float32              step.onnx         one token with its state (decoders)
    model.int8.onnx   layers in dynamic int8       step.int8.onnx
    model.int4.onnx   layers with 4-bit weights    step.int4.onnx
    model.int8-static.onnx    int8 with ranges fixed from calibration inputs; its step is dynamic int8,
                              because the ranges of one token cost next to nothing to find
    step_state.npz    the state before any token, for every step file

Of layers in different formats the narrowest names the file.
"""

from pathlib import Path

from torch import Tensor, nn

from ..architecture import Architecture
from ..model import Model
from ..quantization import NumberFormat
from .onnx import export_onnx
from .static_int8 import write_static_int8
from .step import STEP_STATE, export_step, has_step, write_first_state

ONNX = "model.onnx"
INT8 = "model.int8.onnx"
INT8_STATIC = "model.int8-static.onnx"
INT4 = "model.int4.onnx"
NARROWEST_FIRST = (INT4, INT8_STATIC, INT8, ONNX)

EVERY_LAYER: dict[str, NumberFormat] = {"int8": "int8_dynamic", "int4": "int4_g32"}
"""`quantize` -> the number format that every layer takes; static int8 is no format of the search."""

ONNX_WORDS = {
    ONNX: "the model in float32",
    INT8: "the model with dynamic int8 matrix products; export_report.json says in which layers",
    INT8_STATIC: "the model with int8 matrix products, ranges of activations fixed from training inputs",
    INT4: "the model with 4-bit weights; export_report.json says the number formats",
    "step.onnx": "one token with its state, in float32",
    "step.int8.onnx": "one token with its state, dynamic int8",
    "step.int4.onnx": "one token with its state, 4-bit weights",
    STEP_STATE: "the state before the first token, for the step files",
}
"""What each file is, for the model card."""


def write_onnx_files(
    model: nn.Module,
    architecture: Architecture,
    folder: Path,
    *,
    quantize: str = "none",
    calibration: Tensor | None = None,
) -> dict[str, Architecture]:
    """Writes them; file name -> the architecture whose number formats it computes in.

    Raises:
        UnsupportedError: an operator or number format has no ONNX form, or static int8 has no inputs.
    """
    plain = architecture.with_number_format("fp32")
    every = EVERY_LAYER.get(quantize)
    wanted = architecture.with_number_format(every) if every else architecture
    files = {ONNX: plain}
    export_onnx(model, plain, folder / ONNX)
    if quantize == "int8-static":
        wanted = architecture.with_number_format("int8_dynamic")
        write_static_int8(model, architecture, folder / ONNX, folder / INT8_STATIC, calibration=calibration)
        files[INT8_STATIC] = wanted
    elif (name := quantized_name(wanted)) is not None:
        export_onnx(model, wanted, folder / name, calibration=calibration)
        files[name] = wanted
    return files | _write_steps(model, plain, wanted, folder, calibration)


def _write_steps(
    model: nn.Module, plain: Architecture, wanted: Architecture, folder: Path, calibration: Tensor | None
) -> dict[str, Architecture]:
    if not isinstance(model, Model) or not has_step(plain):
        return {}
    files = {"step.onnx": plain}
    export_step(model, plain, folder / "step.onnx")
    if (name := quantized_name(wanted)) is not None:
        step = name.replace("model.", "step.")
        export_step(model, wanted, folder / step, calibration=calibration)
        files[step] = wanted
    write_first_state(model, folder / STEP_STATE)
    return files


def quantized_name(architecture: Architecture) -> str | None:
    """None where no layer is in an integer format."""
    formats = architecture.number_formats
    if any(name.startswith("int4") for name in formats):
        return INT4
    return INT8 if any(name.startswith("int8") for name in formats) else None
