"""Questions to the strategy: the same answers in this process and in one beside it."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from threading import Thread

import pytest

from search import asking
from search.asking import FEWEST_RESULTS, Answer, Beside, Here, Message, Question
from search.proposer import Candidates, Proposer
from search.strategies import Told, gp, make_strategy, nsga2, surrogate, tpe
from space.architecture import BytesInterface
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

SPACE = (
    load_preset("decoder-small")
    .with_domains({"num_layers": [1, 2], "d_model": [32, 48]})
    .for_interface(BytesInterface(context_length=32, outputs=256))
)
OBJECTIVES = ("loss", "params")


def proposer_of(kind: str, space: SearchSpace = SPACE) -> Proposer:
    strategy = make_strategy(kind, space, 0, OBJECTIVES, computed=False)  # type: ignore[arg-type]  # a word
    return Proposer(strategy, space, seed=0, budget=200)


def results(count: int) -> list[Told]:
    rng = random.Random(0)
    return [
        Told(number, sample(SPACE, rng), (1 + rng.random(), 1e4 * rng.random())) for number in range(count)
    ]


def question(told: list[Told], number: int, pending: int = 0) -> Question:
    """After the start of a job; the last results are still under way."""
    known = told[: len(told) - pending]
    waiting = [one.architecture for one in told[len(known) :]]
    return Question(number, 2, known, waiting, 0, {one.architecture.id for one in known})


@pytest.fixture
def beside() -> Iterator[Beside]:
    one = Beside(proposer_of("surrogate"))
    yield one
    one.close()


def answers(asks: Here | Beside, questions: list[Question]) -> list[Candidates | None]:
    found = []
    for one in questions:
        asks.ask(one)
        found.append(asks.answer(None))
    return found


@pytest.mark.slow
def test_a_process_beside_gives_the_same_also_after_one_died(beside: Beside) -> None:
    told = results(14)
    changed = [*told[:3], Told(3, told[3].architecture, (0.5, 10.0)), *told[4:]]
    questions = [question(told[:5], 50), question(told[:10], 51, pending=2), question(changed, 52)]
    here = Here(proposer_of("surrogate"))
    expected = answers(here, questions)
    growth = here.expected_growth(changed)
    assert answers(beside, questions[:1]) == expected[:1]
    beside.ask(questions[1])
    while (child := beside._child) is None:
        time.sleep(0.01)
    os.kill(child.process.pid, signal.SIGKILL)
    assert beside.answer(None) == expected[1]
    assert beside._child not in (None, child)
    assert answers(beside, questions[2:]) == expected[2:]
    assert growth is not None
    assert growth == beside.expected_growth(changed)


def test_nobody_waits_for_an_answer(beside: Beside) -> None:
    beside.ask(question(results(14), 52))
    assert beside.answer(0.0) is None  # a process takes longer to start


def test_a_question_that_kills_every_process_gets_random_proposals(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_PROGRAM", "no_such_program")
    beside.ask(question(results(14), 52))
    found = beside.answer(None)
    assert found is not None
    assert [one.origin for one in found.proposals] == ["random", "random"]
    assert found.strategy_errors == 2
    assert beside.expected_growth(results(14)) is None


def test_an_exhausted_space_is_said_by_the_process_too() -> None:
    one_choice = {gene.key: [gene.options[0]] for gene in SPACE.genes()}
    tiny = SPACE.with_domains({**one_choice, "num_layers": [1]})
    proposer = replace(proposer_of("random", tiny), limits={"params": 10.0})
    ours, theirs = Pipe()
    with ours, theirs:
        worker = Thread(target=asking.serve, args=(theirs, proposer))
        worker.start()
        ours.send(Message(question([], 50), (), (), frozenset(), frozenset()))
        found: Answer = ours.recv()
        ours.close()
        worker.join()
    assert found.exhausted is not None
    assert "within the constraints" in found.exhausted


def test_no_model_has_fewer_results_than_those_that_are_asked_beside() -> None:
    assert min(surrogate.WARM_UP, tpe.WARM_UP, gp.WARM_UP, nsga2.WARM_UP) >= FEWEST_RESULTS
