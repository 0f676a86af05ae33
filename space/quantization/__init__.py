"""Number formats of a layer's linear maps: one file per format, one closed list of their names.

`space.number_formats` brings a model into its formats; it stands apart because it needs the architecture.
"""

from functools import cache
from typing import Literal, assert_never

from .bf16 import Bf16, Bf16Linear
from .format import Biased, Execution, Format
from .fp4_g32 import Fp4G32, Fp4Linear
from .fp32 import Fp32
from .int4 import Int4G32, Int4G64, Int4Linear
from .int8_dynamic import Int8Dynamic, Int8Linear
from .int8_mixed import Int8FrozenLinear, Int8Mixed, Int8MixedLinear

NumberFormat = Literal["fp32", "bf16", "int8_dynamic", "int8_mixed", "int4_g32", "int4_g64", "fp4_g32"]


@cache
def number_format(name: NumberFormat) -> Format:
    """The format of this name."""
    match name:
        case "fp32":
            return Fp32()
        case "bf16":
            return Bf16()
        case "int8_dynamic":
            return Int8Dynamic()
        case "int8_mixed":
            return Int8Mixed()
        case "int4_g32":
            return Int4G32()
        case "int4_g64":
            return Int4G64()
        case "fp4_g32":
            return Fp4G32()
    assert_never(name)


__all__ = [
    "Bf16",
    "Bf16Linear",
    "Biased",
    "Execution",
    "Format",
    "Fp4G32",
    "Fp4Linear",
    "Fp32",
    "Int4G32",
    "Int4G64",
    "Int4Linear",
    "Int8Dynamic",
    "Int8FrozenLinear",
    "Int8Linear",
    "Int8Mixed",
    "Int8MixedLinear",
    "NumberFormat",
    "number_format",
]
