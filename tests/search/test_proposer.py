"""What stands around every strategy."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

import pytest

import search.polish
from search.proposer import Candidates, Proposer, SpaceExhausted
from search.strategies import Proposal, Strategy, SurrogateEvolution, Told, make_strategy
from space.architecture import Architecture, BytesInterface
from space.costs import costs
from space.sampling import enumerate_space, homogeneous_family, neighbours, sample
from space.search_space import SearchSpace, load_preset

KEYS = ("bits_per_byte", "params")
KINDS = ("random", "nsga2", "tpe", "surrogate")
"""The common contract of all kinds is tested in `strategies/test_contract.py`."""


@cache
def space() -> SearchSpace:
    changes = {"num_layers": [1, 2, 3], "d_model": [32, 64], "number_format": ["fp32"]}
    return (
        load_preset("decoder-small")
        .with_domains(changes)
        .for_interface(BytesInterface(context_length=32, outputs=256))
    )


@cache
def tiny() -> SearchSpace:
    """A few dozen architectures."""
    changes = {"num_layers": [1, 2], "d_model": [32], "position": ["rope"], "mixer": ["softmax", "pool"],
               "head_width": [16], "kv_heads": ["full"], "pool_width": [3], "feed_forward": ["glu"],
               "ffn_gate": ["silu", "relu"], "ff_ratio": [2], "norm": ["rmsnorm"], "residual": ["serial"],
               "number_format": ["fp32"]}  # fmt: skip
    return (
        load_preset("decoder-small")
        .with_domains(changes)
        .for_interface(BytesInterface(context_length=32, outputs=256))
    )


def evaluate(architecture: Architecture) -> tuple[float, float]:
    """A function of the architecture alone."""
    noise = int(architecture.id[:8], 16) / 2**32
    return (1000.0 / costs(architecture).params ** 0.5 + noise, float(costs(architecture).params))


def proposer(kind: str = "nsga2", where: SearchSpace | None = None, **changes: Any) -> Proposer:
    where = where or space()
    strategy = make_strategy(kind, where, 3, KEYS)  # type: ignore[arg-type]
    if isinstance(strategy, SurrogateEvolution):
        strategy = replace(strategy, generations=1, size=6)
    return Proposer(strategy, where, **{"seed": 3, "budget": 30, **changes})


def run(maker: Proposer, trials: int, count: int = 1, in_flight: int = 2) -> list[Proposal]:
    """An asynchronous search: results arrive out of order, `in_flight` proposals are always pending."""
    rng = random.Random(5)
    history: list[Told] = []
    pending: dict[int, Architecture] = {}
    proposals = []
    for number in range(trials):
        while len(pending) >= in_flight:
            done = rng.choice(sorted(pending))
            one = pending.pop(done)
            history.append(Told(done, one, evaluate(one)))
        chosen = rng.choice(maker.candidates(number, count, history, list(pending.values())).proposals)
        pending[number] = chosen.architecture
        proposals.append(chosen)
    return proposals


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "trials"), [("random", 60), ("nsga2", 60), ("tpe", 24)])
def test_no_proposal_repeats_an_earlier_or_pending_one(kind: str, trials: int) -> None:
    proposals = run(proposer(kind), trials, count=2)
    assert len({proposal.architecture.id for proposal in proposals}) == trials
    assert all(space().contains(proposal.architecture) for proposal in proposals)


@pytest.mark.soak
def test_no_proposal_repeats_one_in_a_long_search() -> None:
    proposals = run(proposer("nsga2", budget=300), 300)
    assert len({proposal.architecture.id for proposal in proposals}) == 300


def test_polish_looks_no_further_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front of a hundred members costs a proposal no more than one of four."""
    asked: list[str] = []

    def noted(where: SearchSpace, architecture: Architecture) -> list[Architecture]:
        asked.append(architecture.id)
        return neighbours(where, architecture)

    monkeypatch.setattr(search.polish, "neighbours", noted)
    rng = random.Random(0)
    drawn = [sample(space(), rng) for _ in range(12)]
    history = [Told(k, one, (float(k), -float(k))) for k, one in enumerate(drawn)]
    maker = proposer(budget=13)
    found = maker.candidates(12, 3, history, []).proposals
    assert [one.note.split()[0] for one in found] == ["between"] * 3
    assert len(asked) <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_of_one_number_are_distinct_and_rounds_differ(kind: str) -> None:
    maker = proposer(kind, budget=1)
    history = [Told(k, one.architecture, evaluate(one.architecture)) for k, one in enumerate(run(maker, 12))]
    first = maker.candidates(12, 4, history, []).proposals
    second = maker.candidates(12, 4, history, [], round=1).proposals
    assert len({one.architecture.id for one in first}) == len({one.architecture.id for one in second}) == 4
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_proposer_goes_on_with_the_same_proposals(kind: str) -> None:
    maker = proposer(kind, budget=9)
    proposals = run(maker, 12)
    assert proposals == run(proposer(kind, budget=9), 12)
    history = [Told(k, one.architecture, evaluate(one.architecture)) for k, one in enumerate(proposals)]
    assert maker.candidates(12, 3, history, []) == proposer(kind).candidates(12, 3, history, [])


def test_enqueued_architectures_come_first_once_each_and_within_the_limits() -> None:
    rng = random.Random(0)
    drawn = sorted((sample(space(), rng) for _ in range(9)), key=lambda one: costs(one).params)
    small, large, other = drawn[4], drawn[7], drawn[8]  # some of the homogeneous family are smaller still
    maker = proposer(enqueued=(other, small, large, small), limits={"params": float(costs(small).params)})
    assert [one.origin for one in run(maker, 4)] == ["enqueued", "start", "start", "start"]
    maker = proposer(enqueued=(large, small, large))
    proposals = run(maker, 3)
    assert [one.architecture.id for one in proposals[:2]] == [large.id, small.id]
    assert proposals[2].origin == "start"


def test_the_homogeneous_family_takes_a_third_of_the_budget() -> None:
    proposals = run(proposer(budget=24), 24, count=4)
    started = [proposal for proposal in proposals if proposal.origin == "start"]
    assert started == proposals[:8]
    assert [one.architecture.id for one in started] == [
        one.id for one in islice(homogeneous_family(space()), 8)
    ]
    kinds = {layer.mixer.kind for one in started for layer in one.architecture.layers}
    assert kinds == set(space().domains.mixer)


def test_polish_is_the_end_of_the_budget() -> None:
    maker = proposer("random", budget=30)
    fast, slow = (space().decode({"num_layers": n, "d_model": d}) for n, d in ((1, 32), (3, 64)))
    history = [Told(0, fast, (2.0, 1.0)), Told(1, slow, (1.0, 2.0)), Told(2, slow, (3.0, 3.0))]
    assert maker.candidates(21, 2, history, []).proposals[0].note == ""
    assert maker.candidates(22, 2, history, []).proposals[0].note == "between 0 and 1"
    assert maker.candidates(30, 2, history, []).proposals[0].note == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_proposal_keeps_the_static_limits(kind: str) -> None:
    maker = proposer(kind, limits={"params": 60_000.0}, budget=18)
    assert all(costs(proposal.architecture).params <= 60_000 for proposal in run(maker, 18, count=2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_space_is_proposed_whole_and_then_exhausted(kind: str) -> None:
    everything = {one.id for one in enumerate_space(tiny(), 1000)}
    assert len(everything) == tiny().size() < 50
    maker = proposer(kind, tiny())
    proposals = run(maker, len(everything))
    assert {proposal.architecture.id for proposal in proposals} == everything
    history = [Told(k, one.architecture, evaluate(one.architecture)) for k, one in enumerate(proposals)]
    with pytest.raises(
        SpaceExhausted, match=f"every architecture of the space is evaluated .*{len(everything)}"
    ):
        maker.candidates(len(everything), 1, history, [])


def test_fewer_candidates_than_asked_for_are_given_when_no_more_are_left() -> None:
    everything = enumerate_space(tiny(), 1000)
    history = [Told(k, one, evaluate(one)) for k, one in enumerate(everything[:-2])]
    left = proposer("random", tiny(), budget=1).candidates(len(history), 4, history, [])
    assert {one.architecture.id for one in left.proposals} == {one.id for one in everything[-2:]}
    assert left.duplicates > 0


@pytest.mark.parametrize("kind", ["random", "nsga2"])
def test_tight_limits_reject_few_asks_because_they_are_repaired(kind: str) -> None:
    """Nineteen in twenty samples break this limit; of what is asked for at most one in twenty is rejected."""
    rng = random.Random(0)
    sizes = sorted(costs(sample(space(), rng)).params for _ in range(200))
    limit = float(sizes[10])
    maker = proposer(kind, limits={"params": limit}, budget=10**6)
    history: list[Told] = []
    rejected = 0
    for number in range(60):
        drawn = maker.candidates(number, 1, history, [])
        rejected += drawn.infeasible
        (proposal,) = drawn.proposals
        assert costs(proposal.architecture).params <= limit
        history.append(Told(number, proposal.architecture, evaluate(proposal.architecture)))
    assert rejected <= 0.05 * (60 + rejected)


def test_limits_that_nothing_keeps_exhaust_the_space_and_say_so() -> None:
    maker = proposer("random", tiny(), limits={"params": 10.0})
    with pytest.raises(SpaceExhausted, match="within the constraints"):
        maker.candidates(0, 1, [], [])


def test_what_was_thrown_away_is_counted() -> None:
    maker = proposer("random", limits={"params": 30_000.0}, budget=1)
    drawn = maker.candidates(0, 8, [], [])
    assert isinstance(drawn, Candidates)
    assert drawn.strategy_errors == 0
    assert all("repaired" in one.note for one in drawn.proposals if one.note)


@dataclass(frozen=True)
class FailsEveryThirdTime:
    """A library that raises now and then."""

    inner: Strategy

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        if number % 3 == 0:
            raise RuntimeError("matrix is singular")
        return self.inner.ask(number, history, pending, draw=draw)


def test_f55_a_strategy_that_raises_gives_a_random_proposal_a_count_and_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    maker = Proposer(FailsEveryThirdTime(proposer().strategy), space(), seed=3, budget=1)
    with caplog.at_level(logging.ERROR):
        drawn = maker.candidates(9, 1, [], [])
    assert drawn.strategy_errors == 1
    assert drawn.proposals[0].origin == "random"
    assert drawn.proposals[0].note == "strategy failed: RuntimeError"
    assert "matrix is singular" in caplog.text
    assert maker.candidates(10, 1, [], []).strategy_errors == 0
    assert maker.candidates(9, 1, [], []) == drawn
