"""Questions to the strategy, answered in this process or in one beside it.

    question (number, history, pending)  ->  `Proposer.candidates`  ->  candidates

A model takes seconds to fit, and a coordinator has results to take and users to obey meanwhile. `Beside`
keeps the proposer in a process of its own (`ask_process`), started with the first question that a model can
answer; a question carries what is new since the last one. Proposals are a pure function of the question, so
`Here` and `Beside` give the same, and a process that died is started again and asked again. Numerical
libraries get one thread in both, for a sum may depend on how many share it.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import Connection, Pipe
from typing import Protocol

from threadpoolctl import ThreadpoolController

from space.architecture import Architecture

from .proposer import Candidates, Proposer, SpaceExhausted
from .strategies import Foreseeing, Proposal, Told, is_modelled

log = logging.getLogger(__name__)

FEWEST_RESULTS = 8
"""With fewer no strategy has a model, and a question is answered at once."""
ATTEMPTS = 2
"""Processes that may die of a question before its trial gets a random proposal."""
LONGEST_S = 600.0
"""For one answer; a process that takes longer counts as dead."""
_PROGRAM = "search.ask_process"


@dataclass(frozen=True, slots=True)
class Question:
    """What `Proposer.candidates` is called with."""

    number: int
    count: int
    history: Sequence[Told]
    pending: Sequence[Architecture]
    round: int
    known: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class Message:
    """A question as it travels: results that are new or changed, and the numbers of all of them in order."""

    question: Question | None
    """Without history and known ids; None: how much growth is expected."""
    told: tuple[Told, ...]
    numbers: tuple[int, ...]
    gained: frozenset[str]
    lost: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """Candidates or expected growth; or that the space is exhausted; or what went wrong."""

    candidates: Candidates | None = None
    growth: float | None = None
    exhausted: str | None = None
    problem: str | None = None


class StrategyLostError(RuntimeError):
    """The process of the strategy died of a question, or did not answer in time."""


class Asks(Protocol):
    """One question at a time."""

    def ask(self, question: Question) -> None: ...

    def answer(self, wait_s: float | None) -> Candidates | None:
        """None while there is none after this long; without a limit it waits.

        Raises:
            SpaceExhausted: see `Proposer.candidates`.
        """

    def expected_growth(self, history: Sequence[Told]) -> float | None:
        """See `Foreseeing`; waits for it. Only between questions."""

    def close(self) -> None: ...


class Here:
    """In the calling process, when the answer is asked for."""

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._question: Question | None = None

    def ask(self, question: Question) -> None:
        self._question = question

    def answer(self, wait_s: float | None) -> Candidates:
        assert self._question is not None
        return candidates_of(self._proposer, self._question)

    def expected_growth(self, history: Sequence[Told]) -> float | None:
        return growth_of(self._proposer, history)

    def close(self) -> None:
        """There is nothing to end."""


class Beside:
    """In a process of its own. A thread talks to it, so that no question is waited for longer than asked."""

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._question: Question | None = None
        self._future: Future[Answer] | None = None
        self._talker = ThreadPoolExecutor(1, thread_name_prefix="asks")
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._is_closed = False

    def ask(self, question: Question) -> None:
        question = replace(question, known=frozenset(question.known))
        self._question, self._future = question, None
        if has_model(question.history):
            self._future = self._talker.submit(self._talk, question, question.history)

    def answer(self, wait_s: float | None) -> Candidates | None:
        question = self._question
        assert question is not None
        if self._future is None:
            return candidates_of(self._proposer, question)
        if not wait([self._future], wait_s).done:
            return None
        try:
            found = self._future.result()
        except StrategyLostError:
            return candidates_of(replace(self._proposer, strategy=_Lost()), question)
        if found.exhausted is not None:
            raise SpaceExhausted(found.exhausted)
        assert found.candidates is not None
        return found.candidates

    def expected_growth(self, history: Sequence[Told]) -> float | None:
        if not isinstance(self._proposer.strategy, Foreseeing) or not has_model(history):
            return None
        try:
            return self._talker.submit(self._talk, None, history).result().growth
        except StrategyLostError:
            return None

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._child is not None:
                self._child.close()
        self._talker.shutdown(cancel_futures=True)

    def _talk(self, question: Question | None, history: Sequence[Told]) -> Answer:
        for _ in range(ATTEMPTS):
            try:
                found = self._reached().ask(question, history)
            except (EOFError, OSError) as error:  # it died, or `close` ended it; TimeoutError is an OSError
                self._let_go(error)
            else:
                if found.problem is not None:
                    raise RuntimeError(f"the process of the strategy failed: {found.problem}")
                return found
        raise StrategyLostError(f"{ATTEMPTS} processes of the strategy died of one question")

    def _reached(self) -> "_Child":
        with self._lock:
            if self._is_closed:
                raise StrategyLostError("closed")
            self._child = self._child or _Child(self._proposer)
            return self._child

    def _let_go(self, error: Exception) -> None:
        with self._lock:
            if self._child is not None and not self._is_closed:
                self._child.close()
                self._child = None
                log.warning("process of the strategy lost", extra={"cause": type(error).__name__})


class _Child:
    """The process, and what it has been told."""

    def __init__(self, proposer: Proposer) -> None:
        self._link, theirs = Pipe()
        one_each = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        path = os.pathsep.join(place for place in sys.path if place)
        with theirs:
            # a session of its own: Ctrl-C is for the coordinator, which closes the pipe when it ends
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **one_each, "PYTHONPATH": path},
                start_new_session=True,
            )
        self._unsent: Proposer | None = proposer
        self._told: dict[int, Told] = {}
        self._known: AbstractSet[str] = frozenset()

    def ask(self, question: Question | None, history: Sequence[Told]) -> Answer:
        """
        Raises:
            EOFError: the process died.
            TimeoutError: it takes too long.
        """
        if self._unsent is not None:
            self._link.send(self._unsent)  # here, since it may have to wait until the process has started
            self._unsent = None
        new = tuple(told for told in history if self._told.get(told.number) is not told)
        numbers = tuple(told.number for told in history)
        known = self._known if question is None else question.known
        bare = None if question is None else replace(question, history=(), known=frozenset())
        self._link.send(
            Message(bare, new, numbers, frozenset(known - self._known), frozenset(self._known - known))
        )
        self._told, self._known = {told.number: told for told in history}, known
        if not self._link.poll(LONGEST_S):
            raise TimeoutError(f"no answer in {LONGEST_S:.0f} s")
        found: Answer = self._link.recv()
        return found

    def close(self) -> None:
        """Whoever waits for its answer hears that it is gone."""
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True, slots=True)
class _Lost:
    """The strategy whose process died: the proposer draws at random in its place, and counts it."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        raise StrategyLostError("its process died")


def serve(link: "Connection[Answer, Message]", proposer: Proposer) -> None:
    """Answers until the coordinator is gone."""
    told: dict[int, Told] = {}
    known: set[str] = set()
    while True:
        try:
            message = link.recv()
        except EOFError:
            return
        told |= {one.number: one for one in message.told}
        told = {number: told[number] for number in message.numbers}
        known = (known | message.gained) - message.lost
        try:
            link.send(_answer(proposer, message.question, list(told.values()), known))
        except BrokenPipeError:
            return


def _answer(
    proposer: Proposer, question: Question | None, history: Sequence[Told], known: AbstractSet[str]
) -> Answer:
    try:
        if question is None:
            return Answer(growth=growth_of(proposer, history))
        return Answer(candidates_of(proposer, replace(question, history=history, known=known)))
    except SpaceExhausted as error:
        return Answer(exhausted=error.message)
    except Exception as error:  # the border of a process: the coordinator decides
        log.exception("question failed")
        return Answer(problem=f"{type(error).__name__}: {error}")


def has_model(history: Sequence[Told]) -> bool:
    return sum(told.objectives is not None for told in history) >= FEWEST_RESULTS


def candidates_of(proposer: Proposer, question: Question) -> Candidates:
    with one_thread(proposer):
        return proposer.candidates(
            question.number, question.count, question.history, question.pending,
            round=question.round, known=question.known,
        )  # fmt: skip


def growth_of(proposer: Proposer, history: Sequence[Told]) -> float | None:
    if not isinstance(proposer.strategy, Foreseeing):
        return None
    with one_thread(proposer):
        return proposer.strategy.expected_growth(history)


@contextmanager
def one_thread(proposer: Proposer) -> Iterator[None]:
    """Of the numerical libraries that a model uses."""
    with _controller().limit(limits=1) if is_modelled(proposer.strategy) else nullcontext():
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
