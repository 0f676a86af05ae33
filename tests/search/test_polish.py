"""The last proposals of a budget: gaps of the front, its other number formats, its neighbours."""

import random
from collections.abc import Sequence
from functools import cache

import pytest

from search.polish import Polish, polish_trials
from search.strategies.strategy import Told
from space.architecture import Architecture, BytesInterface
from space.costs import costs
from space.sampling import neighbours
from space.search_space import SearchSpace, load_preset

FORMATS = ["fp32", "int8_dynamic"]


@cache
def space() -> SearchSpace:
    changes = {"num_layers": [1, 2, 3, 4], "d_model": [32, 48, 64], "number_format": FORMATS}
    return (
        load_preset("decoder-small")
        .with_domains(changes)
        .for_interface(BytesInterface(context_length=32, outputs=256))
    )


def built(num_layers: int, d_model: int) -> Architecture:
    return space().decode({"num_layers": num_layers, "d_model": d_model})


FAST, SLOW = built(1, 32), built(4, 64)
HISTORY = (Told(0, FAST, (2.0, 1.0)), Told(1, SLOW, (1.0, 2.0)), Told(2, built(3, 64), (3.0, 3.0)))


def sizes(architecture: Architecture) -> tuple[int, int]:
    return len(architecture.layers), architecture.d_model


def polish(
    number: int, history: Sequence[Told] = HISTORY, pending: Sequence[Architecture] = (), seed: int = 0
) -> Polish:
    seen = {told.architecture.id for told in history} | {one.id for one in pending}
    return Polish(space(), history, pending, lambda one: one.id not in seen, seed, number)


def test_an_even_place_fills_the_widest_gap_with_a_step_from_either_end() -> None:
    found = polish(24).proposals(3)
    low, high = (costs(one).macs for one in (FAST, SLOW))
    steps = {one.id for end in (FAST, SLOW) for one in neighbours(space(), end)}
    assert len({one.architecture.id for one in found}) == 3
    for one in found:
        assert (one.origin, one.note) == ("mutation", "between 0 and 1")
        assert one.parents in ((0,), (1,))
        assert low < costs(one.architecture).macs < high
        assert one.architecture.id in steps
        assert {layer.mixer.kind for layer in one.architecture.layers} == {FAST.layers[0].mixer.kind}
        parent = (FAST, SLOW)[one.parents[0]]
        assert sizes(one.architecture) != sizes(parent)


def test_the_widest_of_several_gaps_comes_first_and_one_that_is_being_filled_waits() -> None:
    middle = built(3, 48)
    history = (*HISTORY, Told(3, middle, (1.1, 1.9)))
    assert polish(24, history).proposals(1)[0].note == "between 0 and 3"
    assert polish(24, history, [built(2, 32)]).proposals(1)[0].note == "between 3 and 1"


def test_an_odd_place_tries_another_number_format_and_gaps_when_all_are_known() -> None:
    found = polish(25).proposals(3)
    assert [one.note for one in found] == ["another number format"]
    assert found[0].architecture.training_id in (FAST.training_id, SLOW.training_id)
    both = [one.with_number_format("int8_dynamic") for one in (FAST, SLOW)]
    assert polish(25, HISTORY, both).proposals(2)[0].note == "between 0 and 1"


@pytest.mark.parametrize("number", [24, 25])
def test_without_gaps_and_formats_the_neighbours_of_the_front_follow(number: int) -> None:
    alone = (Told(0, FAST, (1.0, 1.0)),)
    found = polish(number, alone, [FAST.with_number_format("int8_dynamic")]).proposals(2)
    assert [one.note for one in found] == ["neighbour of the front"]
    assert found[0].architecture.id in {one.id for one in neighbours(space(), FAST)}


def test_a_front_with_nothing_new_around_it_gives_nothing() -> None:
    assert polish(24, ()).proposals(2) == []
    assert Polish(space(), HISTORY, (), lambda one: False, 0, 24).proposals(2) == []


def test_the_same_place_gives_the_same_proposals_in_any_order_of_the_history() -> None:
    history = list(HISTORY)
    random.Random(1).shuffle(history)
    assert polish(24, history).proposals(4) == polish(24).proposals(4)


def test_failed_unfinished_and_infeasible_trials_are_no_members() -> None:
    history = (
        *HISTORY[:2],
        Told(3, built(2, 48), None),
        Told(4, built(2, 64), (0.1, 0.1), complete=False),
        Told(5, built(3, 48), (0.1, 0.1), feasible=False, violation=1.0),
    )
    assert polish(24, history).proposals(1)[0].note == "between 0 and 1"


def test_a_tenth_of_the_budget_and_six_of_a_small_one() -> None:
    assert [polish_trials(budget) for budget in (1, 8, 24, 60, 1000)] == [0, 2, 8, 8, 100]
