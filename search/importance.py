"""Which genes decided an objective: how differently they are spread over the best quarter of the trials.

    V(gene) = a^2 / b * sum over levels v of p(v) (q(v) / p(v) - 1)^2, less its mean over shuffled objectives

p: frequency of a level over all trials that have the gene, q: over those among the best quarter; b and a: the
share of all trials, and of the best ones, that have it at all. Shares are V over the sum of all genes.
`chance` is what 95 of 100 shuffled objectives stay below: a gene under it has shown nothing.

Source: Watanabe, Bansal and Hutter 2023, arXiv:2304.10255 (PED-ANOVA, global, gamma' = 1/4). Different here:
frequencies of levels instead of kernel densities, since genes have few levels; the shuffled mean, which is
large for many levels and few trials, is taken off; the factor a^2 / b for genes that not every architecture
has follows arXiv:2601.20800, theorem 4.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .gene_values import GENES, ReadGene, Value
from .objectives import OBJECTIVES
from .records import TrialRecord

LEAST_TRIALS = 20
"""With fewer the best quarter is fewer than five trials."""
BEST = 0.25
MAX_LEVELS = 6
"""A number with more different values is cut at its quantiles."""
SHUFFLES = 200
CHANCE = 0.95
LEFT_OUT = frozenset({"d_ff"})
"""Follows from the width and the ratio, which stand for themselves."""


@dataclass(frozen=True, slots=True)
class GeneImportance:
    """One gene and one objective; both numbers are fractions of what all genes have together."""

    gene: str
    title: str
    share: float
    chance: float

    @property
    def is_above_chance(self) -> bool:
        return self.share > self.chance


@dataclass(frozen=True, slots=True)
class Importance:
    """The genes of one objective, most important first; none where there are too few trials."""

    objective: str
    trials: int
    genes: tuple[GeneImportance, ...]

    @property
    def is_enough(self) -> bool:
        return self.trials >= LEAST_TRIALS


def importances(trials: Sequence[TrialRecord], objectives: Sequence[str]) -> list[Importance]:
    """One per objective, over the completed search trials, in the numbers of the search stage.

    Only those were trained for equally long; a finalist counts with its short training, as all others do.
    """
    return [importance_of(trials, key) for key in objectives]


def importance_of(trials: Sequence[TrialRecord], objective: str) -> Importance:
    """The genes in which these trials differ, for one objective."""
    rows = [one for one in trials if one.number >= 0 and one.state == "completed" and objective in one.values]
    if len(rows) < LEAST_TRIALS:
        return Importance(objective, len(rows), ())
    minimised = OBJECTIVES[objective].minimised
    best = best_rows([minimised(one.values[objective]) for one in rows])
    shuffled = _shuffled(len(rows), int(best.sum()))
    found: list[tuple[ReadGene, float, float]] = []
    for gene in (one for key, one in GENES.items() if key not in LEFT_OUT):
        levels = levels_of([gene.of(one.architecture) for one in rows])
        if levels.max(initial=-1) < 1:
            continue
        by_chance = divergences(levels, shuffled)
        floor = float(by_chance.mean())
        value = max(0.0, divergence(levels, best) - floor)
        found.append((gene, value, max(0.0, float(np.quantile(by_chance, CHANCE)) - floor)))
    total = math.fsum(value for _, value, _ in found) or 1.0
    genes = [GeneImportance(gene.key, gene.title, value / total, top / total) for gene, value, top in found]
    return Importance(objective, len(rows), tuple(sorted(genes, key=lambda one: (-one.share, one.gene))))


def best_rows(values: Sequence[float]) -> np.ndarray:
    """Mask of the best quarter of values to be minimised, rounded up; of equal values the earlier ones."""
    mask = np.zeros(len(values), dtype=bool)
    mask[np.argsort(np.asarray(values), kind="stable")[: math.ceil(BEST * len(values))]] = True
    return mask


def levels_of(values: Sequence[Value]) -> np.ndarray:
    """Values -> 0, 1, ...; -1 where there is none. Numbers with many values are cut at quantiles.

    >>> levels_of(["b", "a", None, "b"]).tolist(), levels_of([3.0, 1.0, 2.0]).tolist()
    ([1, 0, -1, 1], [2, 0, 1])
    """
    known = sorted({value for value in values if value is not None}, key=str)
    numbers = [value for value in values if isinstance(value, float)]
    if len(known) > MAX_LEVELS and numbers:
        edges = np.unique(np.quantile(numbers, np.arange(1, MAX_LEVELS) / MAX_LEVELS))
        return np.array(
            [int(np.searchsorted(edges, one)) if isinstance(one, float) else -1 for one in values]
        )
    if numbers:
        known = sorted(set(numbers))
    place = {value: index for index, value in enumerate(known)}
    return np.array([-1 if value is None else place[value] for value in values])


def divergence(levels: np.ndarray, best: np.ndarray) -> float:
    """V of the module's equation, before anything is taken off; one trial's weight is spread over all levels
    on both sides, so that no frequency is 0.
    """
    has = levels >= 0
    chosen = has & best
    if not chosen.any():
        return 0.0
    size = int(levels.max()) + 1
    p = _frequencies(levels[has], size)
    q = _frequencies(levels[chosen], size)
    among_all, among_best = has.mean(), chosen.sum() / best.sum()
    return float(among_best**2 / among_all * np.sum(p * (q / p - 1) ** 2))


def divergences(levels: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """`divergence` of every mask at once."""
    has = levels >= 0
    size = int(levels.max()) + 1
    member = (levels[:, None] == np.arange(size)).astype(float)
    counts = masks.astype(float) @ member
    chosen = counts.sum(axis=1, keepdims=True)
    p = _frequencies(levels[has], size)
    q = (counts + 1 / size) / (chosen + 1)
    weight = (chosen[:, 0] / masks.sum(axis=1)) ** 2 / has.mean()
    found: np.ndarray = np.where(chosen[:, 0] > 0, weight * np.sum(p * (q / p - 1) ** 2, axis=1), 0.0)
    return found


def _frequencies(levels: np.ndarray, size: int) -> np.ndarray:
    frequencies: np.ndarray = (np.bincount(levels, minlength=size) + 1 / size) / (len(levels) + 1)
    return frequencies


def _shuffled(rows: int, best: int) -> np.ndarray:
    """Masks with as many best rows anywhere; always the same ones for a size."""
    generator = np.random.default_rng(rows)
    masks = np.zeros((SHUFFLES, rows), dtype=bool)
    for mask in masks:
        mask[generator.permutation(rows)[:best]] = True
    return masks
