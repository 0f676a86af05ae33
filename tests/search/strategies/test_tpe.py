"""The border to Optuna."""

import math
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import search
from search.strategies import Told, Tpe
from search.strategies.optuna_study import NEWEST, recent
from search.strategies.tpe import WARM_UP
from space.architecture import Architecture, BytesInterface
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

KEYS = ("bits_per_byte", "latency_s")


@cache
def space() -> SearchSpace:
    changes = {"mixer": ["softmax", "pool"], "num_layers": [2], "d_model": [32, 64, 128]}
    return (
        load_preset("decoder-small")
        .with_domains(changes)
        .for_interface(BytesInterface(context_length=32, outputs=256))
    )


def prefers_pool(architecture: Architecture) -> tuple[float, float]:
    pools = sum(layer.mixer.kind == "pool" for layer in architecture.layers)
    return (4.0 - pools, 0.001 * (1 + architecture.d_model / 64))


def told(count: int) -> list[Told]:
    rng = random.Random(0)
    drawn = [sample(space(), rng) for _ in range(count)]
    return [Told(number, one, prefers_pool(one)) for number, one in enumerate(drawn)]


def test_optuna_is_used_in_one_file_only() -> None:
    root = Path(search.__path__[0]).parent
    users = [
        path.relative_to(root).as_posix()
        for room in ("space", "evaluators", "search", "dashboards", "api")
        for path in (root / room).rglob("*.py")
        if "import optuna" in path.read_text() or "from optuna" in path.read_text()
    ]
    assert users == ["search/strategies/optuna_study.py"]


def test_the_model_takes_over_after_the_warm_up_and_follows_the_good_trials() -> None:
    strategy = Tpe(space(), 0, KEYS)
    assert strategy.ask(WARM_UP - 1, told(WARM_UP - 1), []).origin == "random"
    proposals = [strategy.ask(number, told(40), []) for number in range(40, 52)]
    assert {proposal.origin for proposal in proposals} == {"model"}
    kinds = Counter(layer.mixer.kind for proposal in proposals for layer in proposal.architecture.layers)
    assert kinds["pool"] > 2 * kinds["softmax"]


def test_pending_architectures_are_avoided() -> None:
    strategy, history = Tpe(space(), 0, KEYS), told(40)
    alone = [strategy.ask(number, history, []).architecture for number in range(40, 50)]
    again = [
        strategy.ask(number, history, [one] * 8).architecture for number, one in enumerate(alone, start=40)
    ]
    assert sum(a.id != b.id for a, b in zip(alone, again, strict=True)) >= 5


def test_infeasible_results_are_avoided() -> None:
    history = [
        Told(one.number, one.architecture, one.objectives, feasible=one.architecture.d_model < 128)
        for one in told(60)
    ]
    strategy = Tpe(space(), 0, KEYS)
    wide = sum(strategy.ask(number, history, []).architecture.d_model == 128 for number in range(60, 72))
    assert wide <= 3


def test_results_of_unfinished_trainings_only_take_the_places_complete_ones_leave() -> None:
    history = [
        Told(one.number, one.architecture, one.objectives, complete=one.number % 2 == 0) for one in told(40)
    ]
    assert Tpe(space(), 0, KEYS).ask(40, history, []).origin == "model"


def test_the_model_sees_the_front_and_the_newest_results() -> None:
    best = [Told(k, told(1)[0].architecture, (0.1 * k, math.exp(-k))) for k in range(3)]
    rest = [Told(k, best[0].architecture, (5.0, 5.0)) for k in range(3, NEWEST + 500)]
    seen = recent([*rest, *best], KEYS)
    assert [one.number for one in seen] == [0, 1, 2, *range(500, NEWEST + 500)]


def test_optuna_writes_nothing_and_keeps_its_log_level(capfd: pytest.CaptureFixture[str]) -> None:
    Tpe(space(), 0, KEYS).ask(20, told(20), [])
    assert capfd.readouterr() == ("", "")
