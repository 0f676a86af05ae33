"""The genes of a search space: what may differ between two of its architectures, and in which values.

A gene is *of the model* (depth, width, position, ...) or *of a layer* (mixer, feed-forward, norm, ...). A
layer gene named in `SearchSpace.shared` has one value for all layers; any other is named `layer<i>.<gene>`,
i from 0. A gene that the rest of a genotype switches off (the window of a convolution, the layers beyond
the depth) is kept and ignored.

Source of the ranges: choices.md 9.1, 9.3 and 15; masked genes: evaluators_and_search.md 12.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from .activations import ActivationName
from .choice import Choice, FeedForwardChoice, MixerChoice, NormChoice, PositionChoice
from .errors import InvalidInputError, nearest
from .feedforward import FeedForwardConfig
from .mixers import MixerConfig
from .norms import NormConfig
from .positions import PositionConfig
from .quantization import NumberFormat

Value = bool | int | float | str
Genotype = Mapping[str, Value]
"""Gene name -> value. A gene that is missing has the first value of its domain."""

ModelGene = Literal["num_layers", "d_model", "patch_size", "tied", "position"]
LayerGene = Literal[
    "mixer", "head_width", "kv_heads", "window", "conv_width", "gates", "pool_width",
    "feed_forward", "activation", "ff_ratio", "norm", "placement", "residual", "number_format",
]  # fmt: skip


def _members(union: Any) -> dict[str, Any]:
    """Tag -> config class of a discriminated union."""
    listed = get_args(get_args(union)[0]) or (get_args(union)[0],)
    return {config.model_fields["kind"].default: config for config in listed}


MIXERS: Mapping[str, type[MixerChoice]] = _members(MixerConfig)
FEED_FORWARDS: Mapping[str, type[FeedForwardChoice]] = _members(FeedForwardConfig)
NORMS: Mapping[str, type[NormChoice]] = _members(NormConfig)
POSITIONS: Mapping[str, type[PositionChoice]] = _members(PositionConfig)

MIXER_FIELDS: Mapping[str, Mapping[str, LayerGene]] = {
    "softmax": {"num_heads": "head_width", "num_kv_heads": "kv_heads"},
    "linear_elu": {"num_heads": "head_width"},
    "sliding_window": {"num_heads": "head_width", "num_kv_heads": "kv_heads", "window": "window"},
    "gated_conv": {"width": "conv_width", "gates": "gates"},
    "pool": {"width": "pool_width"},
}
"""Mixer -> its config's fields and the gene that decides each. A new mixer adds its line here."""

MODEL_GENES: tuple[ModelGene, ...] = get_args(ModelGene)
LAYER_GENES: tuple[LayerGene, ...] = get_args(LayerGene)
FEED_FORWARD_GENES: tuple[LayerGene, ...] = ("feed_forward", "activation", "ff_ratio")
BLOCK_GENES: tuple[LayerGene, ...] = ("norm", "placement", "residual", "number_format")
MIXER_GENES: tuple[LayerGene, ...] = tuple(
    gene for gene in LAYER_GENES if gene not in FEED_FORWARD_GENES and gene not in BLOCK_GENES
)
ORDINAL = frozenset(
    {
        *("num_layers", "d_model", "patch_size", "head_width", "kv_heads"),
        *("window", "conv_width", "pool_width", "ff_ratio"),
    }
)
_KV_HEADS = ("one", "half", "full")


@dataclass(frozen=True, slots=True)
class Gene:
    """One dimension of a space. Ordinal options ascend; `layer` is None for a value of the whole model."""

    name: str
    key: str
    """The domain it draws from: `name` without the layer."""
    options: tuple[Value, ...]
    ordinal: bool
    layer: int | None = None


def _as_options(value: object) -> object:
    """One value is a domain of one; repeated values count once."""
    if isinstance(value, (str, bool, int, float)):
        return (value,)
    return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _one_of(names: Sequence[str]) -> AfterValidator:
    def known(value: str) -> str:
        if value not in names:
            raise ValueError(f"unknown value '{value}'; {nearest(value, names)}")
        return value

    return AfterValidator(known)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; the window of a pool is odd")
    return value


_Domain = (BeforeValidator(_as_options), AfterValidator(_distinct), Field(min_length=1, max_length=64))
_MixerName = Annotated[str, _one_of(tuple(MIXERS))]
_FeedForwardName = Annotated[str, _one_of(tuple(FEED_FORWARDS))]
_NormName = Annotated[str, _one_of(tuple(NORMS))]
_PositionName = Annotated[str, _one_of(tuple(POSITIONS))]
_ActivationOption = Annotated[str, _one_of(get_args(ActivationName))]
_FormatOption = Annotated[str, _one_of(get_args(NumberFormat))]
_KvHeads = Annotated[str, _one_of(_KV_HEADS)]
_Placement = Annotated[str, _one_of(("pre", "post"))]
_Residual = Annotated[str, _one_of(("serial", "parallel"))]
_Int = Annotated[int, BeforeValidator(_number)]
_Ratio = Annotated[float, BeforeValidator(_number), Field(gt=0, le=16)]


class Domains(Choice):
    """The values of every gene; the first one is the default of a gene that a genotype leaves out."""

    num_layers: Annotated[tuple[Annotated[_Int, Field(ge=1, le=64)], ...], *_Domain]
    d_model: Annotated[tuple[Annotated[_Int, Field(ge=8, le=4096, multiple_of=8)], ...], *_Domain]
    patch_size: Annotated[tuple[Annotated[_Int, Field(ge=1, le=512)], ...], *_Domain] = (1,)
    """Vision only: side of the square patches, pixels."""
    tied: Annotated[tuple[bool, ...], *_Domain] = (False,)
    """Decoder only: the head's weight is the embedding's."""
    position: Annotated[tuple[_PositionName, ...], *_Domain]
    mixer: Annotated[tuple[_MixerName, ...], *_Domain]
    head_width: Annotated[tuple[Annotated[_Int, Field(ge=8, le=512, multiple_of=2)], ...], *_Domain] = (16,)
    """Channels per head; where it does not divide d_model, the nearest legal width is taken."""
    kv_heads: Annotated[tuple[_KvHeads, ...], *_Domain] = ("full",)
    """Key/value heads: one, about half of the heads, or as many as heads."""
    window: Annotated[tuple[Annotated[_Int, Field(ge=1, le=65_536)], ...], *_Domain] = (32,)
    conv_width: Annotated[tuple[Annotated[_Int, Field(ge=1, le=64)], ...], *_Domain] = (4,)
    gates: Annotated[tuple[Annotated[_Int, Field(ge=1, le=2)], ...], *_Domain] = (1,)
    pool_width: Annotated[tuple[Annotated[_Int, Field(ge=1, le=63), AfterValidator(_odd)], ...], *_Domain] = (
        3,
    )
    feed_forward: Annotated[tuple[_FeedForwardName, ...], *_Domain]
    activation: Annotated[tuple[_ActivationOption, ...], *_Domain]
    ff_ratio: Annotated[tuple[_Ratio, ...], *_Domain]
    """Hidden width over d_model of an ordinary feed-forward; a gated one gets 2/3 of it."""
    norm: Annotated[tuple[_NormName, ...], *_Domain]
    placement: Annotated[tuple[_Placement, ...], *_Domain] = ("pre",)
    residual: Annotated[tuple[_Residual, ...], *_Domain] = ("serial",)
    number_format: Annotated[tuple[_FormatOption, ...], *_Domain] = ("fp32",)

    def of(self, key: str) -> tuple[Value, ...]:
        """The domain of a gene, in the order it was written: the first value is the default."""
        values: tuple[Value, ...] = getattr(self, key)
        return values

    def options(self, key: str) -> tuple[Value, ...]:
        """The domain of a gene, ordinals ascending."""
        values = self.of(key)
        if key == "kv_heads":
            return tuple(sorted(values, key=lambda value: _KV_HEADS.index(str(value))))
        return tuple(sorted(values, key=float)) if key in ORDINAL else values

    def default(self, key: str) -> Value:
        return self.of(key)[0]


def parse_domains(data: Mapping[str, Any]) -> Domains:
    """Gene -> value or values, checked.

    Raises:
        InvalidInputError: unknown gene, unknown value or value out of range; one line per problem.
    """
    try:
        return Domains.model_validate(dict(data))
    except ValidationError as error:
        raise InvalidInputError("\n".join(_problems(error))) from error


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        gene = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown gene '{gene}'; {nearest(gene, Domains.model_fields)}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        shown = "" if "unknown value" in message else f" (got {problem['input']!r})"
        lines.append(f"gene '{gene}': {message}{shown}")
    return lines
