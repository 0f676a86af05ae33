"""The search space: domains of genes for one task. Presets are YAML files in `space/presets`.

    space = load_preset("decoder-small").with_domains({"d_model": [32, 64]}).for_interface(task_interface)
    architecture = space.decode({"num_layers": 2, "layer1.mixer": "gated_conv"})

Source: choices.md 9.1, 9.3, 14, 15; evaluators_and_search.md 12.1, 12.2; architecture.md 3.4, 5.
"""

from collections.abc import Collection, Mapping
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from .architecture import Architecture, ImageInterface, InterfaceConfig
from .definition import ONLY_FOR, SpaceDefinition
from .errors import InvalidArchitectureError, InvalidInputError, nearest
from .gene import Value
from .genes import LAYER_GENES, Domains, Gene, Genotype, parse_domains
from .genotypes import decode, encode, project
from .layer_options import mixer_config
from .mixers import MIXERS
from .norms import NORMS
from .positions import RopeConfig
from .rules import parse_rules
from .space_size import count

MIN_PATCHES, MAX_PATCHES = 4, 1024
"""Tokens per image that a preset's own patch sizes may give; one set by hand may give any number."""
_INPUTS = {"decoder": ("bytes",), "vision": ("image",), "encoder": ("bytes", "values")}
_PRESETS = Path(__file__).parent / "presets"
_REMEMBERED = 8192
"""Genotypes that a space keeps before it forgets them all."""
_SIZES: dict[str, int] = {}
"""Of spaces by their definition: a service plans the same few again and again."""
_REMEMBERED_SIZES = 256


class SearchSpace(SpaceDefinition):
    """The architectures of one model kind whose genes take the values of `domains`; frozen and hashable."""

    def with_domains(self, changes: Mapping[str, Any]) -> "SearchSpace":
        """The space with domains narrowed or widened: gene -> value or values; `shared` -> layer genes;
        `rules` -> what single layers may have (see `space.rules`), in place of the rules there were.

        Raises:
            InvalidInputError: unknown gene or value, a gene of another model kind, or nothing valid left.
        """
        genes = {key: value for key, value in changes.items() if key not in ("shared", "rules")}
        for key, models in ONLY_FOR.items():
            if key in genes and self.model not in models:
                raise InvalidInputError(
                    f"gene '{key}' belongs to '{' or '.join(models)}' models, "
                    f"space '{self.name}' builds '{self.model}' models; leave it out"
                )
        now = {key: self.domains.of(key) for key in Domains.model_fields}
        shared = _parse_shared(changes["shared"]) if "shared" in changes else self.shared
        edited = tuple(sorted({*self.edited, *genes}))
        domains = parse_domains({**now, **genes})
        rules = parse_rules(changes.get("rules", [rule.as_written() for rule in self.rules]), domains, shared)
        all_sizes = () if "patch_size" in genes else self.all_patch_sizes
        space = self._with(
            domains=domains, shared=shared, rules=rules, edited=edited, all_patch_sizes=all_sizes
        )
        space._check_mixers()
        return space if space.interface is None else space.for_interface(space.interface)

    def for_interface(self, interface: InterfaceConfig) -> "SearchSpace":
        """The space of models for this task's inputs and outputs, without the patch sizes that do not fit.

        Another image brings those back that fit it.

        Raises:
            InvalidInputError: the interface is of another model kind, or nothing in the space fits it.
        """
        if interface.input not in _INPUTS[self.model]:
            raise InvalidInputError(
                f"space '{self.name}' takes input {' or '.join(_INPUTS[self.model])}, the task has "
                f"'{interface.input}'; choose a preset of another model kind"
            )
        space = self._with(interface=interface)
        if isinstance(interface, ImageInterface):
            sizes = self.all_patch_sizes or self.domains.patch_size
            domains = self.domains.model_copy(update={"patch_size": self._patch_sizes(interface, sizes)})
            space = space._with(domains=domains, all_patch_sizes=sizes)
        space.decode({})
        space._check_rotary()
        return space

    def without_formats(
        self, unreal: Collection[str], where: str = "the target"
    ) -> tuple["SearchSpace", tuple[str, ...]]:
        """The space without the number formats that `where` cannot run, and one warning for each that left.

        Raises:
            InvalidInputError: no number format is left.
        """
        gone = [name for name in self.domains.number_format if name in unreal]
        left = tuple(name for name in self.domains.number_format if name not in unreal)
        if not left:
            raise InvalidInputError(
                f"number formats {', '.join(gone)} do not run on {where}; add fp32 to gene 'number_format'"
            )
        warnings = tuple(
            f"number format '{name}' does not run on {where}: left out of the space" for name in gone
        )
        return self._with(domains=self.domains.model_copy(update={"number_format": left})), warnings

    def genes(self) -> tuple[Gene, ...]:
        """Every gene with its options: model genes, shared genes, then layer by layer."""
        return self.all_genes

    def decode(self, genotype: Genotype) -> Architecture:
        """The canonical architecture of a genotype, repaired where its values do not go together.

        Raises:
            InvalidInputError: an unknown gene or value, or no interface yet.
        """
        return decode(self, genotype)

    def encode(self, architecture: Architecture) -> dict[str, Value]:
        """A genotype of every gene with decode(encode(a)).id == a.id.

        Raises:
            InvalidArchitectureError: the architecture is no member of the space.
        """
        return encode(self, architecture)

    def project(self, architecture: Architecture) -> dict[str, Value]:
        """`encode` of a member; of another architecture the genotype with the nearest value of each gene."""
        known = self._projected.get(architecture.id)
        if known is None:
            if len(self._projected) >= _REMEMBERED:
                self._projected.clear()
            known = self._projected[architecture.id] = project(self, architecture)
        return dict(known)

    @cached_property
    def _projected(self) -> dict[str, dict[str, Value]]:
        """Architecture id -> genotype: a parent is varied again and again."""
        return {}

    def contains(self, architecture: Architecture) -> bool:
        """Whether some genotype of the space decodes to this architecture."""
        try:
            encode(self, architecture)
        except InvalidArchitectureError:
            return False
        return True

    def size(self) -> int:
        """Exact number of distinct architectures: idle genes, repairs and equal descriptions count once.

        Up to seconds for a space that was not counted before in this process.
        """
        definition = self.model_dump_json()
        size = _SIZES.get(definition)
        if size is None:
            if len(_SIZES) >= _REMEMBERED_SIZES:
                _SIZES.clear()
            size = _SIZES[definition] = count(self)
        return size

    def _check_mixers(self) -> None:
        for kind in self.domains.mixer:
            way = "causal" if self.model == "decoder" else "bidirectional"
            if not getattr(MIXERS[kind], way):
                raise InvalidInputError(
                    f"gene 'mixer': '{kind}' has no {way} form; leave it out of '{self.model}' models"
                )
            if self.model == "vision" and not self.plain_poolings and MIXERS[kind].reads_grid:
                raise InvalidInputError(
                    f"gene 'mixer': '{kind}' reads the grid of an image, and gene 'pooling' always puts a "
                    f"class token beside it; leave '{kind}' out or add pooling mean"
                )
        for kind in self.domains.norm if self.model == "decoder" else ():
            if not NORMS[kind].causal:
                raise InvalidInputError(
                    f"gene 'norm': '{kind}' has no causal form; leave it out of '{self.model}' models"
                )

    def _check_rotary(self) -> None:
        """Every head that the space can have is wide enough to turn.

        Raises:
            InvalidInputError: some is not; the message names the genes.
        """
        if "rope" not in self.domains.position:
            return
        genes = ("head_width", "heads", "own_head_width")
        readers = [kind for kind in self.domains.mixer if "rope" in MIXERS[kind].positions]
        sizes = product(*(self.domains.of(gene) for gene in genes))
        for values, d_model, patch, part in product(
            list(sizes), self.domains.d_model, self.domains.patch_size, self.domains.rotary_pct
        ):
            at = self.site(d_model, self.interface_with(patch), "rope")
            for kind in readers:
                levels = {"mixer": kind, **dict(zip(genes, values, strict=True))}
                mixer = mixer_config(levels, at)
                width = getattr(mixer, "head_width", 0) or d_model // getattr(mixer, "num_heads", 1)
                try:
                    RopeConfig(rotary_pct=part).check_head_width(at, width)
                except InvalidArchitectureError as error:
                    raise InvalidInputError(
                        f"genes {', '.join(genes)}, rotary_pct: with d_model={d_model} {error.message}"
                    ) from error

    def _patch_sizes(self, image: ImageInterface, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Of these sizes the ones that fit the image, its own first; its own alone where none does."""

        def divides(size: int) -> bool:
            return image.height % size == 0 and image.width % size == 0

        if "patch_size" in self.edited:
            for size in sizes:
                if not divides(size):
                    valid = [str(s) for s in range(1, min(image.height, image.width) + 1) if divides(s)]
                    raise InvalidInputError(
                        f"gene 'patch_size': {size} does not divide the image {image.height}x{image.width}; "
                        f"valid: {', '.join(valid)}"
                    )
            return sizes
        tokens = {size: image.height * image.width // size**2 for size in sizes if divides(size)}
        fitting = tuple(size for size, n in tokens.items() if MIN_PATCHES <= n <= MAX_PATCHES)
        own_first = tuple(sorted(fitting, key=lambda size: size != image.patch_size))
        return own_first or (image.patch_size,)

    def _with(self, **changes: Any) -> "SearchSpace":
        fields = {key: getattr(self, key) for key in type(self).model_fields}
        return type(self)(**{**fields, **changes})


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.yaml")))


def load_preset(name: str) -> SearchSpace:
    """The preset of this name, without an interface yet.

    Raises:
        InvalidInputError: there is no such preset.
    """
    if name not in preset_names():
        raise InvalidInputError(f"unknown preset '{name}'; {nearest(name, preset_names())}")
    data = _preset(name)
    domains, shared = parse_domains(data["domains"]), _parse_shared(data["shared"])
    space = SearchSpace(
        name=name,
        description=data["description"],
        source=data.get("source", ""),
        model=data["model"],
        domains=domains,
        shared=shared,
        rules=parse_rules(data.get("rules", ()), domains, shared),
    )
    space._check_mixers()
    return space


@cache
def _preset(name: str) -> Mapping[str, Any]:
    data: Mapping[str, Any] = yaml.safe_load((_PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    return data


def _parse_shared(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        raise InvalidInputError(f"shared: {value!r} is not a list of layer genes; {nearest('', LAYER_GENES)}")
    for name in names:
        if name not in LAYER_GENES:
            raise InvalidInputError(f"shared: unknown layer gene '{name}'; {nearest(str(name), LAYER_GENES)}")
    return tuple(gene for gene in LAYER_GENES if gene in names)
