"""What a choice says of its own searchable settings: one `LayerGene` per config field.

Two choices that name the same gene share it: `window` means the same width in every windowed mixer, and one
domain in the space serves all of them.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from .errors import nearest

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class LayerGene:
    """A setting of one layer: its name, what values are legal, and its domain where a space names none.

    The first value of `default` is the one a genotype without this gene has. `rare`: an option that
    structured sampling leaves at its default in nine draws of ten.
    """

    name: str
    default: tuple[Value, ...]
    help: str
    values: tuple[str, ...] = ()
    """The closed list of a gene of names; empty for numbers and truth values."""
    least: int | float | None = None
    most: int | float | None = None
    multiple_of: int | None = None
    allowed: tuple[int, ...] = ()
    """The closed list of a gene of few numbers."""
    odd: bool = False
    rare: bool = False
    independent: bool = False
    """`snapped`, `check` and `canonical` never look at it: it multiplies the number of architectures."""

    @property
    def is_ordinal(self) -> bool:
        """Numbers have an order: mutation moves to the next one."""
        return not self.values and not isinstance(self.default[0], (bool, str))

    def option_type(self) -> Any:
        """The type of one value, with its limits, for pydantic."""
        if self.values:
            return Annotated[str, one_of(self.values)]
        first = self.default[0]
        if isinstance(first, bool):
            return bool
        if self.allowed:
            return Annotated[int, BeforeValidator(number_only), AfterValidator(self._is_allowed)]
        limits = Field(ge=self.least, le=self.most, multiple_of=self.multiple_of)
        checks = (BeforeValidator(number_only), limits, *((AfterValidator(_odd),) if self.odd else ()))
        number: Any = type(first)
        for check in checks:
            number = Annotated[number, check]
        return number

    def _is_allowed(self, value: int) -> int:
        if value not in self.allowed:
            raise ValueError(f"{value} is none of {', '.join(map(str, self.allowed))}")
        return value


def one_of(names: tuple[str, ...]) -> AfterValidator:
    """Validator: the value is one of these names; the message says the nearest one."""

    def known(value: str) -> str:
        if value not in names:
            raise ValueError(f"unknown value '{value}'; {nearest(value, names)}")
        return value

    return AfterValidator(known)


def number_only(value: object) -> object:
    """Validator: truth values are no numbers."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; an odd number is wanted")
    return value


HEAD_WIDTH = LayerGene(
    "head_width", (16,), "Channels per head; where it does not divide d_model, the nearest legal width.",
    least=8, most=512, multiple_of=2,
)  # fmt: skip
HEADS = LayerGene(
    "heads",
    (0,),
    "Number of heads, the nearest legal one; 0: as many as head_width gives.",
    least=0,
    most=256,
)
"""Read wherever HEAD_WIDTH is."""
KV_HEADS = LayerGene(
    "kv_heads", ("full",), "Key/value heads: one, about half of the heads, or as many as heads.",
    values=("one", "half", "full"),
)  # fmt: skip
WINDOW = LayerGene("window", (32,), "Tokens a windowed mixer reads.", least=1, most=65_536)
CONV_WIDTH = LayerGene("conv_width", (4,), "Taps of a convolution along time.", least=1, most=64)
ACTIVATION_GENE = "activation"
"""Name of the gene that every feed-forward with an activation shares; its values are the activations."""
FF_RATIO = LayerGene(
    "ff_ratio", (4.0,), "Hidden width over d_model of an ordinary feed-forward; a gated one gets 2/3 of it.",
    least=0.01, most=16,
)  # fmt: skip
