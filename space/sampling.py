"""Drawing and varying architectures: all results are canonical members of the space.

Sampling is structured. Shared levels come first (depth, width, one template of a layer, a second mixer),
then a pattern lays the two mixers over the depth, then single genes of single layers deviate. Independent
draws per layer never reach the ends of a front, where architectures are homogeneous.

    uniform  aaaa      every_k  aaba      half  aabb      ends  baab      free  any mixer in any layer

Source: choices.md 9.3 (patterns); evaluators_and_search.md 12.3, 12.4 (operators); architecture.md 5.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

from .architecture import Architecture
from .gene import Value
from .genes import LAYER_GENES, MODEL_GENES, OWN_GENES, Gene
from .genotypes import assemble
from .layer_options import active_feed_forward_genes, active_layer_genes, active_mixer_genes
from .search_space import SearchSpace

PATTERNS = {"uniform": 0.35, "every_k": 0.2, "half": 0.2, "ends": 0.1, "free": 0.15}
"""Pattern -> probability."""
DEVIATION = 0.1
"""Probability that one gene of one layer leaves the shared level."""
NEIGHBOUR_STEP, DEPTH_STEP, ONE_POINT = 0.8, 0.2, 0.5
"""Probabilities: an ordinal moves to the next option, depth changes by one, crossover cuts once."""
RARE = 0.1
"""Probability that a rare option is drawn at all; sharing, low rank and a factorised table are one such."""
_RARE = frozenset(name for name, gene in OWN_GENES.items() if gene.rare)
_TRIES = 50

_Levels = dict[str, Value]


def sample(space: SearchSpace, rng: random.Random) -> Architecture:
    """A structured random architecture."""
    domains = space.domains
    model: _Levels = {key: rng.choice(domains.of(key)) for key in MODEL_GENES if key in space.options}
    genes = [(key, domains.of(key), key in _RARE) for key in space.read_layer_genes]
    template: _Levels = {key: _drawn(options, is_rare, rng) for key, options, is_rare in genes}
    second: _Levels = {key: _drawn(options, is_rare, rng) for key, options, is_rare in genes}
    if rng.random() >= RARE:
        model |= {key: domains.default(key) for key in ("sharing", "rank_ratio", "embedding_width")}
    pattern = rng.choices(list(PATTERNS), weights=list(PATTERNS.values()))[0]
    layers = []
    for use_second in lay_out(pattern, int(model["num_layers"]), rng):
        layer: _Levels = dict(template)
        source = second if use_second else template
        for key in active_mixer_genes(str(source["mixer"])):
            layer[key] = source[key]
        if pattern == "free":
            layer["mixer"] = rng.choice(domains.mixer)
        for key, options, is_rare in genes:
            if rng.random() < DEVIATION:
                layer[key] = _drawn(options, is_rare, rng)
        layers.append(layer)
    for key in template.keys() & set(space.shared):
        for layer in layers:
            layer[key] = template[key]
    return assemble(space, model, layers)


def _drawn(options: tuple[Value, ...], is_rare: bool, rng: random.Random) -> Value:
    """A value of a layer gene; a rare option stays at its default in most draws."""
    if is_rare and len(options) > 1 and rng.random() >= RARE:
        return options[0]
    return rng.choice(options)


def lay_out(pattern: str, depth: int, rng: random.Random) -> list[bool]:
    """Which layers take the second mixer.

    >>> lay_out("half", 4, random.Random(0)), lay_out("ends", 4, random.Random(0))
    ([False, False, True, True], [True, False, False, True])
    """
    if pattern == "every_k":
        k = rng.randint(2, max(2, depth))
        return [layer % k == k - 1 for layer in range(depth)]
    if pattern == "half":
        return [2 * layer >= depth for layer in range(depth)] if depth > 1 else [False]
    if pattern == "ends":
        return [layer in (0, depth - 1) for layer in range(depth)]
    return [False] * depth


def homogeneous_family(space: SearchSpace) -> Iterator[Architecture]:
    """Architectures with equal layers, each mixer in each size, in an order spread out from the first.

    Every mixer comes once before any comes twice, each time in another size; sizes go in bit-reversed
    order, the largest first. Feed-forward, number format and the mixer's own genes rotate; the rest has its
    default.
    """
    sizes = _spread(
        sorted(product(space.domains.num_layers, space.domains.d_model), key=lambda s: s[0] * s[1] ** 2)
    )
    mixers = space.domains.mixer
    seen: set[str] = set()
    for turn in range(len(space.domains.number_format)):
        for round_ in range(len(sizes)):
            for index, mixer in enumerate(mixers):
                depth, d_model = sizes[(round_ + index * len(sizes) // len(mixers)) % len(sizes)]
                layer = _rotated_layer(space, mixer, round_, index, turn)
                model: dict[str, Value] = {"num_layers": depth, "d_model": d_model}
                architecture = space.decode(space.genotype(model, [layer]))
                if architecture.id not in seen:
                    seen.add(architecture.id)
                    yield architecture


def mutate(
    space: SearchSpace, architecture: Architecture, rng: random.Random, *, rate: float = 1.0
) -> Architecture:
    """A changed copy; equal to the parent only in a space that has nothing else near it.

    Each active gene changes with probability `rate` / (number of active genes), at least one of them does;
    depth grows or shrinks by one option with probability 0.2, by copying or leaving out a random layer.
    """
    child = architecture
    for _ in range(_TRIES):
        genotype = space.project(architecture)
        changed = rng.random() < DEPTH_STEP and _step_depth(space, genotype, rng)
        genes = [g for g in space.active_genes(genotype) if g.key != "num_layers" and len(g.options) > 1]
        chosen = [gene for gene in genes if rng.random() * len(genes) < rate]
        if genes and not chosen and not changed:
            chosen = [rng.choice(genes)]
        for gene in chosen:
            genotype[gene.name] = _moved(gene, genotype[gene.name], rng)
        child = space.decode(genotype)
        if child.id != architecture.id:
            break
    return child


def crossover(space: SearchSpace, a: Architecture, b: Architecture, rng: random.Random) -> Architecture:
    """A child with model genes and whole layers (at the same relative depth) from either parent."""
    first, second = space.project(a), space.project(b)
    child: dict[str, Value] = {}
    for gene in space.genes():
        if gene.layer is None:
            child[gene.name] = rng.choice((first, second))[gene.name]
    depth = space.depth(child)
    cut = rng.randint(0, depth) if rng.random() < ONE_POINT else None
    for layer in range(max(space.domains.num_layers)):
        take_first = layer < cut if cut is not None else rng.random() < 0.5
        parent = first if take_first else second
        source = layer if layer >= depth else layer * space.depth(parent) // depth
        for key in space.read_layer_genes:
            if key not in space.shared:
                child[f"layer{layer}.{key}"] = parent[f"layer{source}.{key}"]
    return space.decode(child)


def neighbours(space: SearchSpace, architecture: Architecture) -> list[Architecture]:
    """All distinct architectures one gene away, nearest options first; a deeper one repeats the last layer.

    Their order is that of the genes, never of a hash.
    """
    genotype = space.project(architecture)
    found: dict[str, Architecture] = {}
    moves = [
        (_distance(gene, genotype[gene.name], option), order, gene.name, option)
        for order, gene in enumerate(space.active_genes(genotype))
        for option in gene.options
        if option != genotype[gene.name]
    ]
    for _, _, name, option in sorted(moves, key=lambda move: move[:2]):
        changed = {**genotype, name: option}
        if name == "num_layers":
            _fill_deeper(space, changed, space.depth(genotype))
        neighbour = space.decode(changed)
        if neighbour.id != architecture.id:
            found.setdefault(neighbour.id, neighbour)
    return list(found.values())


def enumerate_space(space: SearchSpace, limit: int) -> list[Architecture]:
    """The first `limit` distinct architectures of the space, all of them when there are fewer."""
    return list(islice(_all(space), limit))


def _all(space: SearchSpace) -> Iterator[Architecture]:
    seen = set()
    layer_genes = [gene for gene in space.read_layer_genes if gene not in space.shared]
    above = [gene for gene in space.genes() if gene.layer is None]
    for values in product(*(gene.options for gene in above)):
        genotype = {gene.name: value for gene, value in zip(above, values, strict=True)}
        for layers in _stacks(space, genotype, layer_genes, space.depth(genotype)):
            for index, layer in enumerate(layers):
                genotype.update({f"layer{index}.{key}": value for key, value in layer.items()})
            architecture = space.decode(genotype)
            if architecture.id not in seen:
                seen.add(architecture.id)
                yield architecture


def _stacks(
    space: SearchSpace, shared: dict[str, Value], genes: Sequence[str], depth: int
) -> Iterator[tuple[_Levels, ...]]:
    """The product of the layers' settings, the last layer turning fastest; nothing is listed beforehand."""
    if depth == 0:
        yield ()
        return
    for layer in _one_layer(space, shared, genes):
        for rest in _stacks(space, shared, genes, depth - 1):
            yield (layer, *rest)


def _one_layer(space: SearchSpace, shared: dict[str, Value], genes: Sequence[str]) -> Iterator[_Levels]:
    """Every setting of a layer's own genes once, mixer by mixer; idle genes at their default."""

    def kinds(key: str) -> tuple[Value, ...]:
        return space.domains.options(key) if key in genes else (shared[key],)

    for mixer, feed_forward in product(kinds("mixer"), kinds("feed_forward")):
        used = active_layer_genes(str(mixer), str(feed_forward))
        fixed = {"mixer": (mixer,), "feed_forward": (feed_forward,)}
        options = [
            fixed.get(key) or (space.domains.options(key) if key in used else (space.domains.default(key),))
            for key in genes
        ]
        for values in product(*options):
            yield dict(zip(genes, values, strict=True))


def _spread(ordered: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Bit-reversed order from the far end: largest, middle, quarters, ..."""
    bits = max(1, (len(ordered) - 1).bit_length())
    reversed_bits = sorted(range(2**bits), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    return [ordered[len(ordered) - 1 - i] for i in reversed_bits if i < len(ordered)]


def _rotated_layer(space: SearchSpace, mixer: str, round_: int, index: int, turn: int) -> _Levels:
    """Default layer of this mixer; what rotates does so with steps that do not lock to each other."""
    layer: _Levels = {key: space.domains.default(key) for key in LAYER_GENES}
    layer["mixer"] = mixer

    def rotated(key: str, step: int) -> Value:
        options = space.domains.of(key)
        return options[step % len(options)]

    for key in active_mixer_genes(mixer)[1:]:
        layer[key] = rotated(key, round_ + turn)
    layer["feed_forward"] = rotated("feed_forward", round_ + index)
    for key in active_feed_forward_genes(str(layer["feed_forward"]))[1:]:
        if key != "ff_ratio":
            layer[key] = rotated(key, (round_ + index) // 2 + index)
    layer["number_format"] = rotated("number_format", round_ + index + turn)
    return layer


def _moved(gene: Gene, value: Value, rng: random.Random) -> Value:
    """Another option: the next one up or down for most moves of an ordinal."""
    others = [option for option in gene.options if option != value]
    if gene.ordinal and rng.random() < NEIGHBOUR_STEP:
        at = gene.options.index(value)
        others = [gene.options[i] for i in (at - 1, at + 1) if 0 <= i < len(gene.options)]
    return rng.choice(others)


def _distance(gene: Gene, now: Value, then: Value) -> int:
    return abs(gene.options.index(now) - gene.options.index(then)) if gene.ordinal else 1


def _step_depth(space: SearchSpace, genotype: dict[str, Value], rng: random.Random) -> bool:
    """Copies or leaves out random layers to get the next depth up or down; False: there is only one."""
    options = space.domains.options("num_layers")
    if len(options) < 2:
        return False
    depth = space.depth(genotype)
    at = options.index(depth)
    target = int(rng.choice([options[i] for i in (at - 1, at + 1) if 0 <= i < len(options)]))
    order = list(range(depth))
    while len(order) < target:
        copied = rng.randrange(len(order))
        order.insert(copied, order[copied])
    while len(order) > target:
        order.pop(rng.randrange(len(order)))
    _reorder(space, genotype, lambda layer: order[layer] if layer < target else layer)
    genotype["num_layers"] = target
    return True


def _fill_deeper(space: SearchSpace, genotype: dict[str, Value], depth: int) -> None:
    _reorder(space, genotype, lambda layer: min(layer, depth - 1))


def _reorder(space: SearchSpace, genotype: dict[str, Value], source: Callable[[int], int]) -> None:
    old = dict(genotype)
    for gene in space.genes():
        if gene.layer is not None:
            genotype[gene.name] = old[f"layer{source(gene.layer)}.{gene.key}"]
