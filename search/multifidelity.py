"""Multi-objective asynchronous successive halving: which trial is trained further, as a pure decision.

At rung k with m results, a trial may go on when its position is at most max(1, floor(m / reduction)).
Positions go by non-dominated rank; inside a front the best point of each objective comes first, then with two
objectives the point farthest from those before it, with more the point with the largest hypervolume of its
own: nearly everything is non-dominated there, and far from the others is far from the front as well. So the
extremes of the front are counted among the promoted, never added to them.

Source: Li et al. 2020 (ASHA, promotion variant), arXiv:1810.05934; Schmucker et al. 2021 (several objectives,
epsilon-net order), arXiv:2106.12639. Deliberately different: the extremes come first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .pareto import contribution_order, farthest_order, nondominated_ranks


@dataclass(frozen=True, slots=True)
class RungResult:
    """What a trial reached at one rung. Every rung a trial completed has its own result."""

    number: int
    rung: int
    """1 for the first rung."""
    vector: tuple[float, ...]
    """Minimised; logarithms where the objective is logarithmic."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Train trial `number` up to rung `rung`."""

    number: int
    rung: int


def positions(vectors: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices, best first."""
    ranks = nondominated_ranks(vectors)
    spread = contribution_order if vectors and len(vectors[0]) > 2 else farthest_order
    order: list[int] = []
    for rank in range(max(ranks, default=-1) + 1):
        members = [index for index, known in enumerate(ranks) if known == rank]
        order += [members[i] for i in spread([vectors[index] for index in members])]
    return order


def top(results: Sequence[RungResult], reduction: int) -> list[int]:
    """Numbers of the trials of one rung that may go on, best first."""
    ordered = sorted(results, key=lambda result: result.number)
    quota = max(1, len(ordered) // reduction) if ordered else 0
    return [ordered[index].number for index in positions([result.vector for result in ordered])[:quota]]


def next_promotion(
    results: Sequence[RungResult], waiting: Collection[int], *, num_rungs: int, reduction: int
) -> Promotion | None:
    """The promotion to start now, at the highest possible rung; None: start a new trial instead.

    `waiting`: the trials that could be trained further now. The others (running, failed, cancelled) keep
    their positions at the rungs they completed, but are not promoted. The order of `results` does not matter.
    """
    for rung in range(num_rungs - 1, 0, -1):
        gone_on = {result.number for result in results if result.rung > rung}
        for number in top([result for result in results if result.rung == rung], reduction):
            if number in waiting and number not in gone_on:
                return Promotion(number, rung + 1)
    return None
