"""Rules of a space: which layers may have which values, in words.

    rules:
      - {layers: first half, mixer: [sliding_window, block_local]}     windowed in the first half
      - {layers: last half, mixer: softmax}                            global later
      - {layers: every 3, mixer: softmax}                              layers 3, 6, 9, ... counted from 1
      - {mixer: softmax, at_most: 2}                                   in at most two layers

A rule without a count restricts the genes of the layers it names; of two rules about one gene of one layer
the later one decides. A rule with a count looks at one gene, `mixer` or `feed_forward`, of the finished
layers. Decoding repairs: a forbidden value becomes a permitted one, the same for the same value; layers
too many or too few for a count change from the last one on.

Source: choices.md 4.4, 9.3 (patterns over depth); evaluators_and_search.md 12.10 (pattern constraints).
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from .choice import Choice
from .errors import InvalidInputError, nearest
from .gene import Value
from .genes import LAYER_GENES, Domains, parse_domains

SELECTORS = (
    "all",
    "first",
    "last",
    "ends",
    "inner",
    "first half",
    "last half",
    "odd",
    "even",
    "every K",
    "1-3",
)
COUNTED = ("mixer", "feed_forward")


def _as_words(value: object) -> object:
    """YAML reads the layer 1 as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Rule(Choice):
    """One rule; `domains` are pairs (layer gene, permitted values)."""

    layers: Annotated[str, BeforeValidator(_as_words)] = "all"
    domains: tuple[tuple[str, tuple[Value, ...]], ...] = Field(min_length=1)
    at_least: int | None = Field(None, ge=0, le=256)
    at_most: int | None = Field(None, ge=0, le=256)

    @model_validator(mode="after")
    def _counts_one_family(self) -> "Rule":
        if self.is_count and (len(self.domains) != 1 or self.domains[0][0] not in COUNTED):
            raise ValueError(f"a rule with at_least or at_most counts one gene of {' or '.join(COUNTED)}")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least={self.at_least} is more than at_most={self.at_most}")
        return self

    @property
    def is_count(self) -> bool:
        return self.at_least is not None or self.at_most is not None

    def as_written(self) -> dict[str, Any]:
        """As a preset or a job file has it."""
        counts = {key: getattr(self, key) for key in ("at_least", "at_most")}
        return {
            "layers": self.layers,
            **{gene: list(values) for gene, values in self.domains},
            **{key: value for key, value in counts.items() if value is not None},
        }

    def told(self) -> str:
        """In one line, as it may be written."""
        parts = [f"layers: {self.layers}"] if self.layers != "all" else []
        parts += [f"{gene}: [{', '.join(map(str, values))}]" for gene, values in self.domains]
        parts += [
            f"{key}: {getattr(self, key)}"
            for key in ("at_least", "at_most")
            if getattr(self, key) is not None
        ]
        return "{" + ", ".join(parts) + "}"


def parse_rules(data: object, domains: Domains, shared: Sequence[str]) -> tuple[Rule, ...]:
    """Rules as they stand in a preset or a job file.

    Raises:
        InvalidInputError: unknown gene, value, selector or key; a value outside the space's domain; a gene
            that all layers share.
    """
    if not isinstance(data, (list, tuple)):
        raise InvalidInputError(
            f"rules: {data!r} is not a list of rules, each like {{layers: last, mixer: softmax}}"
        )
    return tuple(_parse_rule(index, item, domains, shared) for index, item in enumerate(data))


def _parse_rule(index: int, data: object, domains: Domains, shared: Sequence[str]) -> Rule:
    if isinstance(data, Rule):
        return data
    if not isinstance(data, Mapping):
        raise InvalidInputError(
            f"rules.{index}: {data!r} is not a rule like {{layers: last, mixer: softmax}}"
        )
    keys = ("layers", "at_least", "at_most")
    genes = {str(key): value for key, value in data.items() if key not in keys}
    if not genes:
        raise InvalidInputError(f"rules.{index}: names no gene; give one, for example mixer: softmax")
    for gene in genes:
        if gene not in LAYER_GENES:
            raise InvalidInputError(
                f"rules.{index}: unknown key '{gene}'; {nearest(gene, (*keys, *LAYER_GENES))}"
            )
        if gene in shared:
            raise InvalidInputError(
                f"rules.{index}: all layers share gene '{gene}'; take it out of `shared` first"
            )
    now = {key: domains.of(key) for key in Domains.model_fields}
    try:
        parsed = parse_domains({**now, **genes})
    except InvalidInputError as error:
        raise InvalidInputError(f"rules.{index}: {error.message}") from error
    permitted = tuple((gene, parsed.of(gene)) for gene in genes)
    for gene, values in permitted:
        outside = [value for value in values if value not in domains.of(gene)]
        if outside:
            raise InvalidInputError(
                f"rules.{index}: {gene}={outside[0]} is not in the space; "
                f"its values: {', '.join(map(str, domains.of(gene)))}"
            )
    try:
        rule = Rule.model_validate({**{k: data[k] for k in keys if k in data}, "domains": permitted})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in ("rules", index, *problem["loc"]))
        raise InvalidInputError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from error
    selected(rule.layers, 1)
    return rule


def selected(layers: str, depth: int) -> frozenset[int]:
    """The layers, from 0, that a selector names in a model of this depth.

    >>> sorted(selected("last half", 5)), sorted(selected("every 2", 5)), sorted(selected("2-3", 5))
    ([2, 3, 4], [1, 3], [1, 2])
    """
    every, span = re.fullmatch(r"every (\d+)", layers), re.fullmatch(r"(\d+)(?:-(\d+))?", layers)
    if every and int(every[1]) > 0:
        return frozenset(range(int(every[1]) - 1, depth, int(every[1])))
    if span and 0 < int(span[1]) <= int(span[2] or span[1]):
        return frozenset(range(int(span[1]) - 1, min(depth, int(span[2] or span[1]))))
    named = {
        "all": range(depth), "first": range(1), "last": range(depth - 1, depth),
        "ends": {0, depth - 1}, "inner": range(1, depth - 1),
        "first half": range(depth // 2), "last half": range(depth // 2, depth),
        "odd": range(0, depth, 2), "even": range(1, depth, 2),
    }  # fmt: skip
    if layers not in named:
        raise InvalidInputError(f"unknown layers '{layers}'; {nearest(layers, SELECTORS)}")
    return frozenset(named[layers])


@lru_cache(maxsize=4096)
def domains_at(rules: tuple[Rule, ...], domains: Domains, layer: int, depth: int) -> Domains:
    """The domains of one layer of a model of this depth."""
    changes: dict[str, Any] = {}
    for rule in rules:
        if not rule.is_count and layer in selected(rule.layers, depth):
            changes.update(dict(rule.domains))
    return domains.model_copy(update=changes) if changes else domains


def permitted(domains: Domains, there: Domains, key: str, value: Value) -> Value:
    """The value, or the permitted one that stands for it."""
    options = there.of(key)
    if value in options:
        return value
    return options[domains.of(key).index(value) % len(options)]


def breaches(rule: Rule, stack: Sequence[tuple[str, str]]) -> int:
    """By how many layers a stack of (mixer, feed-forward) misses a count: too many above 0, too few below."""
    chosen = selected(rule.layers, len(stack))
    return missed(rule, sum(counts_kind(rule, *stack[index]) for index in chosen), len(stack))


def counts_kind(rule: Rule, mixer: str, feed_forward: str) -> bool:
    """A rule with a count counts a layer of these kinds."""
    ((gene, values),) = rule.domains
    return (mixer if gene == "mixer" else feed_forward) in values


def missed(rule: Rule, count: int, depth: int) -> int:
    """By how many so many counted layers are too many (above 0) or too few in a model of this depth."""
    if rule.at_most is not None and count > rule.at_most:
        return count - rule.at_most
    return min(0, count - min(rule.at_least or 0, len(selected(rule.layers, depth))))
