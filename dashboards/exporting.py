"""What a model can be taken home as, in words; the names are those of `space.export`."""

from collections.abc import Mapping
from typing import get_args

from space.export import FORMATS, Quantize

FORMAT_WORDS: Mapping[str, str] = {
    "torch": "weights as safetensors",
    "code": "the model as one Python file that needs only torch",
    "torch-export": "a torch.export program",
    "onnx": "files for ONNX Runtime",
    "hf": "a folder for Transformers",
}
NUMBER_WORDS: Mapping[str, str] = {
    "none": "as searched",
    "int8": "int8, activations scaled as they come",
    "int8-static": "int8, activations scaled once on calibration data",
    "int4": "int4 weights",
}
USUAL = ("torch", "onnx")


def export_formats() -> list[tuple[str, str]]:
    """(name, words) of every format."""
    return [(name, FORMAT_WORDS.get(name, name)) for name in FORMATS]


def export_numbers() -> list[tuple[str, str]]:
    """(name, words) of every choice of number formats."""
    return [(name, NUMBER_WORDS.get(name, name)) for name in get_args(Quantize)]
