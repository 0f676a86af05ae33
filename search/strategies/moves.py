"""Structured moves: changes of many layers at once, which single-gene mutation reaches only by luck.

    homogeneous   a structured sample whose layers all equal its first one
    set_run       one layer gene takes one value in a run of neighbouring layers, often in all of them

The ends of a front are made of architectures with equal layers (architecture.md 5), and what lies next to
them differs in runs of layers rather than in single ones.
"""

import random

from space.architecture import Architecture
from space.gene import Value
from space.sampling import crossover, mutate, sample
from space.search_space import SearchSpace

WHOLE_DEPTH = 0.5
"""Probability that a run is all layers."""
SHARES = {"mutation": 0.3, "crossover": 0.4, "run": 0.3}
"""Probabilities of the kinds of child."""


def homogeneous(space: SearchSpace, rng: random.Random) -> Architecture:
    """A random architecture with equal layers, as far as the rules of the space permit."""
    genotype = space.project(sample(space, rng))
    for gene in space.genes():
        if gene.layer is not None:
            genotype[gene.name] = genotype[f"layer0.{gene.key}"]
    return space.decode(genotype)


def set_run(space: SearchSpace, architecture: Architecture, rng: random.Random) -> Architecture:
    """A copy with one gene set to one value in a run of layers; the copy of a space without layer genes is
    equal.
    """
    genotype = space.project(architecture)
    genes = [
        gene for gene in space.active_genes(genotype) if gene.layer is not None and len(gene.options) > 1
    ]
    if not genes:
        return architecture
    gene = rng.choice(genes)
    value: Value = rng.choice(gene.options)
    for layer in _run(space.depth(genotype), gene.layer or 0, rng):
        genotype[f"layer{layer}.{gene.key}"] = value
    return space.decode(genotype)


def child_of(
    space: SearchSpace, mother: Architecture, father: Architecture, rng: random.Random
) -> Architecture:
    """A mutation, a mutated crossover or a run of layers changed, by `SHARES`."""
    kind = rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
    if kind == "run":
        return set_run(space, mother, rng)
    if kind == "crossover" and mother.id != father.id:
        mother = crossover(space, mother, father, rng)
        if rng.random() < 0.5:
            return mother
    return mutate(space, mother, rng)


def _run(depth: int, inside: int, rng: random.Random) -> range:
    """Neighbouring layers around one."""
    if rng.random() < WHOLE_DEPTH:
        return range(depth)
    return range(rng.randint(0, inside), rng.randint(inside, depth - 1) + 1)
