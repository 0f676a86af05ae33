"""Architectures with weights as files: ONNX in their number formats, and the published model folder."""

from .folder import (
    FORMATS,
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
from .products import onnx_form

__all__ = [
    "FORMATS",
    "ExportedFolder",
    "Format",
    "Quantize",
    "check_formats",
    "export_module",
    "export_onnx",
    "input_name",
    "input_shape",
    "load_folder",
    "onnx_form",
    "require_onnx_formats",
    "write_folder",
]
