"""Architectures with weights as files: ONNX in their number formats, and the published model folder."""

from .folder import (
    FORMATS,
    USUAL,
    ExportedFolder,
    Format,
    Quantize,
    check_formats,
    load_folder,
    write_folder,
)
from .onnx import (
    export_module,
    export_onnx,
    input_name,
    input_shape,
    require_onnx_formats,
)
from .onnx_files import quantized_name, write_onnx_files
from .products import onnx_form
from .python_files import CODE, WEIGHTS, model_source
from .step import STEP_STATE, export_step, has_step, write_first_state

__all__ = [
    "CODE",
    "FORMATS",
    "STEP_STATE",
    "USUAL",
    "WEIGHTS",
    "ExportedFolder",
    "Format",
    "Quantize",
    "check_formats",
    "export_module",
    "export_onnx",
    "export_step",
    "has_step",
    "input_name",
    "input_shape",
    "load_folder",
    "model_source",
    "onnx_form",
    "quantized_name",
    "require_onnx_formats",
    "write_first_state",
    "write_folder",
    "write_onnx_files",
]
