"""What a search space is made of: model kind, domains, shared genes, the task's interface."""

from collections.abc import Mapping
from functools import cached_property
from itertools import chain

from pydantic import Field

from .architecture import (
    CLASS_TOKEN,
    BytesInterface,
    ClassificationHead,
    HeadConfig,
    ImageInterface,
    InterfaceConfig,
    LanguageHead,
    Model,
    canonical_embedding_width,
    grid_of,
)
from .choice import Choice, Surroundings
from .errors import InvalidInputError
from .gene import Value
from .genes import BLOCK_GENES, LAYER_GENES, MODEL_GENES, ORDINAL, Domains, Gene, Genotype
from .layer_options import active_feed_forward_genes, active_layer_genes, active_mixer_genes
from .positions import POSITIONS
from .rules import Rule, domains_at, permitted

ONLY_FOR: Mapping[str, tuple[Model, ...]] = {
    "patch_size": ("vision",), "tied": ("decoder",), "pooling": ("encoder", "vision"),
    "embedding_width": ("decoder", "encoder"),
}  # fmt: skip
"""Model genes that exist for some model kinds only."""
NAMED_ONLY: frozenset[str] = frozenset({"embedding_width"})
"""Model genes that are genes only where the space names values other than the default, so that the draws of
a seed in the spaces there were do not change."""


class SpaceDefinition(Choice):
    """Frozen and hashable. `SearchSpace` adds the operations."""

    name: str
    description: str = ""
    source: str = ""
    """Where the space comes from in the literature."""
    model: Model
    domains: Domains
    shared: tuple[str, ...] = ()
    """Layer genes with one value for the whole model."""
    rules: tuple[Rule, ...] = ()
    """What single layers may have; see `space.rules`."""
    interface: InterfaceConfig | None = None
    edited: tuple[str, ...] = Field((), description="Genes whose domain the user set")
    all_patch_sizes: tuple[int, ...] = Field((), description="Before those that do not fit the image left")

    @cached_property
    def all_genes(self) -> tuple[Gene, ...]:
        """Model genes first, then shared ones, then layer by layer up to the greatest depth."""
        model = [key for key in MODEL_GENES if self._has(key)]
        shared = [key for key in self.read_layer_genes if key in self.shared]
        own = [key for key in self.read_layer_genes if key not in self.shared]
        return (
            *(self._gene(key, None) for key in chain(model, shared)),
            *(self._gene(key, layer) for layer in range(max(self.domains.num_layers)) for key in own),
        )

    @cached_property
    def read_layer_genes(self) -> tuple[str, ...]:
        """The layer genes that some mixer or feed-forward of the space reads."""
        read = set(BLOCK_GENES)
        for kind in self.domains.mixer:
            read.update(active_mixer_genes(kind))
        for kind in self.domains.feed_forward:
            read.update(active_feed_forward_genes(kind))
        return tuple(key for key in LAYER_GENES if key in read)

    @cached_property
    def options(self) -> dict[str, tuple[Value, ...]]:
        """Gene name -> its options."""
        return {gene.name: gene.options for gene in self.all_genes}

    def gene_name(self, key: str, layer: int) -> str:
        """Name of a layer gene: a shared one has the same name in every layer."""
        return key if key in self.shared else f"layer{layer}.{key}"

    def value(self, genotype: Genotype, key: str, layer: int | None = None) -> Value:
        """The value of a gene, the default of its domain where the genotype leaves it out."""
        name = key if layer is None else self.gene_name(key, layer)
        return genotype[name] if name in genotype else self.domains.default(key)

    def depth(self, genotype: Genotype) -> int:
        return int(self.value(genotype, "num_layers"))

    def levels(self, genotype: Genotype, layer: int) -> dict[str, Value]:
        """All layer genes of one layer that something in the space reads."""
        return {key: self.value(genotype, key, layer) for key in self.read_layer_genes}

    def ruled(self, levels: dict[str, Value], layer: int, depth: int) -> dict[str, Value]:
        """The layer genes as the rules permit them in this layer of a model of this depth."""
        if not self.rules:
            return levels
        there = self.domains_at(layer, depth)
        return {key: permitted(self.domains, there, key, value) for key, value in levels.items()}

    def domains_at(self, layer: int, depth: int) -> Domains:
        """The domains of one layer of a model of this depth."""
        return domains_at(self.rules, self.domains, layer, depth)

    def active_genes(self, genotype: Genotype) -> tuple[Gene, ...]:
        """The genes that this genotype does not switch off."""
        depth = self.depth(genotype)
        used = [
            active_layer_genes(
                str(self.value(genotype, "mixer", layer)), str(self.value(genotype, "feed_forward", layer))
            )
            for layer in range(depth)
        ]
        anywhere = frozenset(MODEL_GENES).union(*used)
        return tuple(
            gene
            for gene in self.all_genes
            if (
                gene.key in anywhere
                if gene.layer is None
                else gene.layer < depth and gene.key in used[gene.layer]
            )
        )

    def genotype(self, model_genes: Genotype, layers: list[dict[str, Value]]) -> dict[str, Value]:
        """Every gene of the space; deeper layers repeat the given ones, missing genes take the default."""
        genotype: dict[str, Value] = {}
        for gene in self.all_genes:
            if gene.key in MODEL_GENES:
                known = [model_genes[gene.key]] if gene.key in model_genes else []
            elif gene.layer is None:  # read by some layers only
                known = [levels[gene.key] for levels in layers if gene.key in levels]
            else:
                levels = layers[gene.layer % len(layers)]
                known = [levels[gene.key]] if gene.key in levels else []
            genotype[gene.name] = known[0] if known else self.domains.default(gene.key)
        return genotype

    def site(
        self, d_model: int, interface: InterfaceConfig, position: str, *, class_tokens: int = 0
    ) -> Surroundings:
        """Where the layers of such a model stand, as far as their configs depend on it. Of positions, alibi
        decides a config, which wants heads, and so do those on the tokens, which replace tables of mixers.
        """
        decides = position == "alibi" or POSITIONS[position].on_tokens
        return Surroundings(
            d_model=d_model,
            context_length=interface.tokens + class_tokens,
            num_layers=1,
            causal=self.model == "decoder",
            position=POSITIONS[position if decides else "none"](),
            grid=grid_of(interface, class_tokens),
        )

    def interface_with(self, patch_size: int) -> InterfaceConfig:
        """The task's interface; images are cut into patches of this size."""
        if self.interface is None:
            raise InvalidInputError(
                f"space '{self.name}' has no interface yet; call for_interface with the task's"
            )
        if isinstance(self.interface, ImageInterface):
            return self.interface.model_copy(update={"patch_size": patch_size})
        return self.interface

    def head(self, *, tied: bool = False, pooling: str = "mean") -> HeadConfig:
        """The head of this kind of model."""
        if self.model == "decoder":
            return LanguageHead(tied=tied)
        return ClassificationHead.model_validate({"pooling": pooling})

    def embedding_width(self, width: int, d_model: int) -> int:
        """What a model of this width gets when the gene says `width`: only token ids have a table."""
        has_table = self.interface is None or isinstance(self.interface, BytesInterface)
        return canonical_embedding_width(width, d_model) if has_table else 0

    def class_tokens(self, genotype: Genotype) -> int:
        """Trained tokens of a model whose genes ask for this pooling; a decoder has none."""
        asked = genotype.get("pooling", self.domains.pooling[0])
        return int(self.model != "decoder" and asked == CLASS_TOKEN)

    @cached_property
    def plain_poolings(self) -> tuple[str, ...]:
        """Those that read the tokens of the input alone."""
        return tuple(pooling for pooling in self.domains.pooling if pooling != CLASS_TOKEN)

    def _has(self, key: str) -> bool:
        """Whether a model gene is a gene of this space."""
        if key in NAMED_ONLY and self.domains.of(key) == Domains.model_fields[key].default:
            return False
        return self.model in ONLY_FOR.get(key, (self.model,))

    def _gene(self, key: str, layer: int | None) -> Gene:
        name = key if layer is None else f"layer{layer}.{key}"
        return Gene(name, key, self.domains.options(key), key in ORDINAL, layer)
