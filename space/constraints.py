"""Static limits: what a candidate may cost at most, checked and repaired before anything is evaluated.

Repair shrinks one gene at a time in random order (feed-forward ratio, width, depth) until every limit
holds, at most 50 times; where all three are at their least, any gene may change that brings the limits nearer
(ours). `smallest` tells a limit that no architecture of the space can keep.

Source: evaluators_and_search.md 12.2.
"""

import random
from collections.abc import Callable, Mapping

from .architecture import CLASS_TOKEN, Architecture
from .costs import costs
from .errors import InvalidInputError, nearest
from .floor import least
from .microcontroller import planned
from .search_space import SearchSpace

StaticLimits = Mapping[str, int | float]
"""Key of a closed-form cost (`LIMIT_KEYS`) -> the largest value allowed."""
STATIC_KEYS = ("params", "macs", "memory_bytes", "weights_bytes")
PLANNED_KEYS = ("sram_bytes", "flash_bytes")
"""Of the plan for a microcontroller: limits only, since a plan takes longer than a count."""
LIMIT_KEYS = STATIC_KEYS + PLANNED_KEYS
MAX_REPAIRS = 50


def static_costs(
    architecture: Architecture, batch_size: int = 1, tokens: int | None = None
) -> dict[str, float]:
    """The costs that can be limited; `macs` counts one sequence, `tokens` None is the full context."""
    counted = costs(architecture, batch_size=batch_size, tokens=tokens)
    return {key: float(getattr(counted, key)) for key in STATIC_KEYS}


def violations(
    architecture: Architecture, limits: StaticLimits, batch_size: int = 1, tokens: int | None = None
) -> dict[str, float]:
    """Broken limits with their relative excess, value / limit - 1 > 0; empty when all hold.

    Raises:
        InvalidInputError: an unknown cost, or a limit that is not above 0.
    """
    if not limits:
        return {}
    for key, limit in limits.items():
        if not limit > 0:  # NaN too
            raise InvalidInputError(f"the limit of '{_known(key)}' is {limit}; give a number above 0")
    values = static_costs(architecture, batch_size, tokens)
    if limits.keys() & set(PLANNED_KEYS):
        values |= planned_costs(architecture, tokens)
    return {
        _known(key): values[key] / limit - 1 for key, limit in limits.items() if values[_known(key)] > limit
    }


def planned_costs(architecture: Architecture, tokens: int | None = None) -> dict[str, float]:
    """What one sequence takes on a microcontroller: see `microcontroller`."""
    plan = planned(architecture, tokens=None if architecture.interface.input == "image" else tokens)
    return {"sram_bytes": float(plan.peak_bytes), "flash_bytes": float(plan.weights_bytes)}


def repair(
    space: SearchSpace,
    architecture: Architecture,
    limits: StaticLimits,
    rng: random.Random,
    *,
    batch_size: int = 1,
    tokens: int | None = None,
) -> Architecture | None:
    """The architecture if it keeps the limits, else a shrunken one; None after 50 steps or at the bottom."""

    def excess(one: Architecture) -> float:
        return float(sum(violations(one, limits, batch_size, tokens).values()))

    for _ in range(MAX_REPAIRS):
        if not violations(architecture, limits, batch_size, tokens):
            return architecture
        smaller = _shrunken(space, architecture, rng)
        if smaller is None:
            smaller = _improved(space, architecture, excess, rng)
        if smaller is None:
            return None
        architecture = smaller
    return None if violations(architecture, limits, batch_size, tokens) else architecture


def smallest(space: SearchSpace, key: str, batch_size: int = 1, tokens: int | None = None) -> float:
    """The least value of one cost over the whole space, or a little less; see `floor`. 0 for what is planned,
    of which no floor is known."""
    if key in PLANNED_KEYS:
        return 0.0
    return float(least(space, _known(key), batch_size, tokens))


def cautions(architecture: Architecture) -> tuple[str, ...]:
    """What is valid but doubtful in this architecture (choices.md 14: V7b, V8, V15); empty for most."""
    found = []
    pooling = getattr(architecture.head, "pooling", "mean")
    # beside a class token, which stays first, a reversed input is another one
    is_even = pooling in ("mean", "max")
    if architecture.model == "encoder" and is_even and not _sees_direction(architecture):
        found.append("sees distance but not direction: a reversed input gives the same answer")
    if architecture.model != "decoder":
        n = architecture.tokens + architecture.class_tokens
        back, ahead = _stack_reach(architecture)
        seen: dict[str, int] = {"last": back, CLASS_TOKEN: ahead}
        reach = seen.get(pooling, min(back, ahead))
        if reach < n - 1:
            sees: dict[str, str] = {
                "mean": "only the mean at the end sees all",
                "max": "only the maximum at the end sees all",
                "last": f"the answer sees only the last {reach + 1} tokens",
                CLASS_TOKEN: f"the answer sees only the first {reach} tokens",
            }
            found.append(f"the mixers together reach {reach} of {n - 1} positions; {sees[pooling]}")
    if len(architecture.layers) > 8 and any(layer.placement == "post" for layer in architecture.layers):
        found.append("post-norm with more than 8 layers trains badly")
    return tuple(found)


def _stack_reach(architecture: Architecture) -> tuple[int, int]:
    """How far the last token sees back through all layers, and the first one ahead.

    Layer by layer from the top: blocks with common borders never see beyond them, however many there are.
    """
    at = architecture.surroundings()
    end = at.context_length - 1
    first, last = end, 0
    for layer in reversed(architecture.layers):
        first, last = layer.mixer.seen(at, first)[0], layer.mixer.seen(at, last)[1]
    return end - first, last


def _sees_direction(architecture: Architecture) -> bool:
    """Whether position or mixers tell a sequence from its reversal."""
    by_mixers = any(layer.mixer.sees_direction for layer in architecture.layers)
    return architecture.position.direction_aware or by_mixers


def _known(key: str) -> str:
    if key not in LIMIT_KEYS:
        raise InvalidInputError(f"'{key}' is not a closed-form cost; {nearest(key, LIMIT_KEYS)}")
    return key


def _improved(
    space: SearchSpace,
    architecture: Architecture,
    excess: Callable[[Architecture], float],
    rng: random.Random,
) -> Architecture | None:
    """An architecture one gene away that misses the limits by less, the first in random order; None: none."""
    genotype, now = space.project(architecture), excess(architecture)
    genes = space.active_genes(genotype)
    moves = [(gene.name, value) for gene in genes for value in gene.options if value != genotype[gene.name]]
    rng.shuffle(moves)
    for name, value in moves:
        other = space.decode({**genotype, name: value})
        if other.id != architecture.id and excess(other) < now:
            return other
    return None


def _shrunken(space: SearchSpace, architecture: Architecture, rng: random.Random) -> Architecture | None:
    """One gene one option down, chosen at random; None when everything is at its least."""
    genotype = space.project(architecture)
    genes = [
        gene for gene in space.active_genes(genotype) if gene.key in ("ff_ratio", "d_model", "num_layers")
    ]
    kinds = ["ff_ratio", "d_model", "num_layers"]
    rng.shuffle(kinds)
    for kind in kinds:
        lower = [g for g in genes if g.key == kind and g.options.index(genotype[g.name]) > 0]
        rng.shuffle(lower)
        for gene in lower:
            value = gene.options[gene.options.index(genotype[gene.name]) - 1]
            smaller = space.decode({**genotype, gene.name: value})
            if smaller.id != architecture.id:
                return smaller
    return None
