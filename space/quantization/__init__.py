"""Number formats of a layer's linear maps: one file per format, one closed list of their names.

`space.number_formats` brings a model into its formats; it stands apart because it needs the architecture.
"""

from typing import Literal, assert_never

from .bf16 import Bf16, Bf16Linear
from .format import Format
from .fp32 import Fp32
from .int8_dynamic import Int8Dynamic, Int8Linear

NumberFormat = Literal["fp32", "bf16", "int8_dynamic"]


def number_format(name: NumberFormat) -> Format:
    """The format of this name."""
    match name:
        case "fp32":
            return Fp32()
        case "bf16":
            return Bf16()
        case "int8_dynamic":
            return Int8Dynamic()
    assert_never(name)


__all__ = [
    "Bf16",
    "Bf16Linear",
    "Format",
    "Fp32",
    "Int8Dynamic",
    "Int8Linear",
    "NumberFormat",
    "number_format",
]
