"""The genes of a search space: what may differ between two of its architectures, and in which values.

A gene is *of the model* (depth, width, position, ...) or *of a layer* (mixer, feed-forward, norm, ...). A
layer gene named in `SearchSpace.shared` has one value for all layers; any other is named `layer<i>.<gene>`,
i from 0. A gene that the rest of a genotype switches off (the window of a convolution, the layers beyond
the depth) is kept and ignored.

Source of the ranges: choices.md 9.1, 9.3 and 15; masked genes: evaluators_and_search.md 12.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, create_model

from .architecture import Pooling
from .choice import Choice
from .errors import InvalidInputError, nearest
from .feedforward import FEED_FORWARDS
from .gene import HEAD_WIDTH, HEADS, LayerGene, Value, number_only, one_of
from .mixers import MIXERS
from .norms import NORMS
from .positions import POSITIONS
from .positions.rope import known_part
from .quantization import NumberFormat

Genotype = Mapping[str, Value]
"""Gene name -> value. A gene that is missing has the first value of its domain."""


def own_genes(config: Any) -> tuple[LayerGene, ...]:
    """The genes that a choice reads."""
    genes = tuple(config.genes.values())
    return (*genes, HEADS) if HEAD_WIDTH in genes else genes


def _declared(classes: Mapping[str, Any]) -> dict[str, LayerGene]:
    """Gene name -> gene, over all choices of a family in their order."""
    found: dict[str, LayerGene] = {}
    for kind, config in classes.items():
        for gene in own_genes(config):
            if found.setdefault(gene.name, gene) != gene:
                raise InvalidInputError(
                    f"'{kind}' declares gene '{gene.name}' unlike an earlier choice; choose another name"
                )
    return found


MIXER_OWN_GENES: Mapping[str, LayerGene] = _declared(MIXERS)
FEED_FORWARD_OWN_GENES: Mapping[str, LayerGene] = _declared(FEED_FORWARDS)
OWN_GENES: Mapping[str, LayerGene] = {**MIXER_OWN_GENES, **FEED_FORWARD_OWN_GENES}
"""The genes that choices declare themselves."""

MODEL_GENES: tuple[str, ...] = (
    "num_layers", "d_model", "patch_size", "tied", "pooling", "position", "rotary_pct", "sharing",
    "private_norm", "rank_ratio", "embedding_width",
)  # fmt: skip
MIXER_GENES: tuple[str, ...] = ("mixer", *MIXER_OWN_GENES)
FEED_FORWARD_GENES: tuple[str, ...] = ("feed_forward", *FEED_FORWARD_OWN_GENES)
BLOCK_GENES: tuple[str, ...] = ("norm", "placement", "residual", "number_format")
LAYER_GENES: tuple[str, ...] = (*MIXER_GENES, *FEED_FORWARD_GENES, *BLOCK_GENES)
ORDINAL: frozenset[str] = frozenset(
    {"num_layers", "d_model", "patch_size", "rotary_pct", "rank_ratio"}
    | {name for name, gene in OWN_GENES.items() if gene.is_ordinal or name == "kv_heads"}
)
GENE_HELP: Mapping[str, str] = {
    "num_layers": "Depth.",
    "d_model": "Width of the residual stream.",
    "patch_size": "Side of the square patches of an image, pixels.",
    "tied": "The head's weight is the embedding's.",
    "pooling": "How tokens become one vector for the classes; cls is a trained token before them.",
    "position": "How tokens know where they stand.",
    "rotary_pct": "Share of a head's channels that rope turns.",
    "sharing": "Layers with common weights: one block for all, k blocks repeated (1122) or cycled (1212).",
    "private_norm": "Under sharing, norms stay each layer's own.",
    "rank_ratio": "Inner width of low-rank linear maps over their smaller side; 1 is dense.",
    "embedding_width": "Width of a factorised table of token ids, then mapped to d_model; 0 is one table.",
    "mixer": "Token mixer.",
    "feed_forward": "Channel mixer.",
    "norm": "Normalisation.",
    "placement": "Norm before each branch, or after its sum.",
    "residual": "Branches in turn, side by side, or with half a feed-forward on each side of the mixer.",
    "number_format": "What the layer's linear maps compute in at inference.",
    **{name: gene.help for name, gene in OWN_GENES.items()},
}
"""Every gene in one sentence."""
SHARINGS = ("none", "all", *(f"{order}_{k}" for k in (2, 3, 4, 6) for order in ("repeat", "cycle")))
"""Values of gene `sharing`: one block for all layers, or k blocks each repeated (1122) or cycled (1212)."""
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


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def _rank_ratio(value: float) -> float:
    if value != 1.0 and not 0 < value <= 0.5:
        raise ValueError(f"{value:g} saves nothing or is no ratio; give 1 (dense) or at most 0.5")
    return value


_Domain = (BeforeValidator(_as_options), AfterValidator(_distinct), Field(min_length=1, max_length=64))
_MixerName = Annotated[str, one_of(tuple(MIXERS))]
_FeedForwardName = Annotated[str, one_of(tuple(FEED_FORWARDS))]
_NormName = Annotated[str, one_of(tuple(NORMS))]
_PositionName = Annotated[str, one_of(tuple(POSITIONS))]
_FormatOption = Annotated[str, one_of(get_args(NumberFormat))]
_Pooling = Annotated[str, one_of(get_args(Pooling))]
_Sharing = Annotated[str, one_of(SHARINGS)]
_Placement = Annotated[str, one_of(("pre", "post"))]
_Residual = Annotated[str, one_of(("serial", "parallel", "macaron"))]
_Int = Annotated[int, BeforeValidator(number_only)]
_RotaryPct = Annotated[float, BeforeValidator(number_only), AfterValidator(known_part)]
_Ratio = Annotated[float, BeforeValidator(number_only), AfterValidator(_rank_ratio), Field(gt=0, le=1)]


class _FixedDomains(Choice):
    """The genes that every space has; those of single choices come from the choices."""

    num_layers: Annotated[tuple[Annotated[_Int, Field(ge=1, le=64)], ...], *_Domain]
    d_model: Annotated[tuple[Annotated[_Int, Field(ge=8, le=4096, multiple_of=8)], ...], *_Domain]
    patch_size: Annotated[tuple[Annotated[_Int, Field(ge=1, le=512)], ...], *_Domain] = (1,)
    """Vision only: side of the square patches, pixels."""
    tied: Annotated[tuple[bool, ...], *_Domain] = (False,)
    """Decoder only: the head's weight is the embedding's."""
    pooling: Annotated[tuple[_Pooling, ...], *_Domain] = ("mean",)
    """Classification only: how tokens become one vector."""
    position: Annotated[tuple[_PositionName, ...], *_Domain]
    rotary_pct: Annotated[tuple[_RotaryPct, ...], *_Domain] = (1.0,)
    """Share of a head's channels that rope turns."""
    sharing: Annotated[tuple[_Sharing, ...], *_Domain] = ("none",)
    private_norm: Annotated[tuple[bool, ...], *_Domain] = (False,)
    """Under sharing, norms stay each layer's own."""
    rank_ratio: Annotated[tuple[_Ratio, ...], *_Domain] = (1.0,)
    """Inner width of low-rank linear maps over their smaller side; 1: dense."""
    embedding_width: Annotated[tuple[Annotated[_Int, Field(ge=0, le=4096)], ...], *_Domain] = (0,)
    """Inputs of token ids only: width of a factorised table's rows; 0, or d_model and more: one table."""
    mixer: Annotated[tuple[_MixerName, ...], *_Domain]
    feed_forward: Annotated[tuple[_FeedForwardName, ...], *_Domain]
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


if TYPE_CHECKING:

    class Domains(_FixedDomains):
        """The values of every gene; the first one is the default of a gene that a genotype leaves out."""

else:
    _own = {
        name: (Annotated[tuple[gene.option_type(), ...], *_Domain], gene.default)
        for name, gene in OWN_GENES.items()
    }
    Domains = create_model("Domains", __base__=_FixedDomains, __module__=__name__, **_own)


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
