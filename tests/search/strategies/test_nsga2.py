"""Survival of asynchronous NSGA-II."""

import random
from functools import cache

import pytest

from search.pareto import front
from search.strategies import Nsga2, Told
from search.strategies.nsga2 import WARM_UP, survivors
from space.architecture import BytesInterface
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

KEYS = ("bits_per_byte", "error")


@cache
def space() -> SearchSpace:
    return load_preset("decoder-small").for_interface(BytesInterface(context_length=32, outputs=256))


def told(vectors: list[tuple[float, float]], **changes: object) -> list[Told]:
    rng = random.Random(0)
    return [Told(number, sample(space(), rng), vector, **changes) for number, vector in enumerate(vectors)]  # type: ignore[arg-type]


def cloud(count: int) -> list[tuple[float, float]]:
    rng = random.Random(1)
    return [(rng.random(), rng.random()) for _ in range(count)]


def test_the_whole_front_survives_before_anything_dominated() -> None:
    vectors = cloud(200)
    members = survivors(told(vectors), KEYS, 40)
    numbers = [member.told.number for member in members]
    assert len(set(numbers)) == 40
    assert set(front(vectors)) <= set(numbers)
    assert [member.rank for member in members] == sorted(member.rank for member in members)


def test_a_front_larger_than_the_population_keeps_its_ends() -> None:
    vectors = [(k / 99, (1 - k / 99) ** 2) for k in range(100)]
    numbers = {member.told.number for member in survivors(told(vectors), KEYS, 10)}
    assert len(numbers) == 10
    assert {0, 99} <= numbers


def test_of_equal_vectors_the_lowest_number_survives() -> None:
    members = survivors(told([(1.0, 1.0), (0.0, 2.0), (1.0, 1.0)]), KEYS, 40)
    assert sorted(member.told.number for member in members) == [0, 1]


def test_unfinished_and_infeasible_results_come_after_all_complete_ones() -> None:
    rows = told([(9.0, 9.0), (1.0, 1.0), (0.5, 0.5), (0.1, 0.1)])
    rows[1] = Told(1, rows[1].architecture, (1.0, 1.0), complete=False)
    rows[2] = Told(2, rows[2].architecture, (0.5, 0.5), feasible=False, violation=0.2)
    rows[3] = Told(3, rows[3].architecture, (0.1, 0.1), feasible=False, violation=0.7)
    assert [member.told.number for member in survivors(rows, KEYS, 40)] == [0, 1, 2, 3]
    ranks = [member.rank for member in survivors(rows, KEYS, 40)]
    assert ranks == sorted(set(ranks))


def test_children_begin_after_the_warm_up_and_come_from_survivors() -> None:
    strategy = Nsga2(space(), 0, KEYS)
    assert strategy.ask(9, told(cloud(WARM_UP - 1)), []).origin == "random"
    history = told(cloud(100))
    alive = {member.told.number for member in survivors(history, KEYS, 40)}
    proposals = [strategy.ask(number, history, []) for number in range(100, 160)]
    assert {proposal.origin for proposal in proposals} == {"crossover", "mutation"}
    assert all(set(proposal.parents) <= alive for proposal in proposals)
    assert all(proposal.parents for proposal in proposals)


def test_latencies_are_compared_by_their_logarithm() -> None:
    vectors = [(1 - k / 10, 10.0 ** (k - 10)) for k in range(11)]
    kept = [m.told.number for m in survivors(told(vectors), ("error", "latency_s"), 6)]
    assert max(b - a for a, b in zip(sorted(kept), sorted(kept)[1:], strict=False)) <= 3


@pytest.mark.parametrize("count", [5000])
def test_survivors_of_a_long_history_are_found_quickly_enough_to_ask_between_results(count: int) -> None:
    rows = told(cloud(10)) * (count // 10)
    rows = [
        Told(k, row.architecture, vector)
        for k, (row, vector) in enumerate(zip(rows, cloud(count), strict=True))
    ]
    assert len(survivors(rows, KEYS, 40)) == 40
