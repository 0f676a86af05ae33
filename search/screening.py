"""From a trial number to a trial: candidates drawn, screened by a worker, one of them kept.

    number -> k candidates -> proxies, block latencies -> limits -> one that none other beats -> trial

Numbers have no gaps: an answer for a later number waits until the earlier ones have become trials, and all
wait for the frozen sample that proxies are read against. Candidates that all break a limit are drawn again;
when several bring the screen down, the first is tried alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from evaluators.latency import blocks_of
from evaluators.protocol import Measurement
from evaluators.proxies import proxy, proxy_fingerprint
from space.architecture import Architecture

from .asking import Asks, Beside, Here, Question
from .cascade import AUDIT
from .fitted_latency import FittedLatency
from .history import History
from .ledger import UNVALIDATED, Ledger
from .objectives import PROXY_SCORE
from .pareto import nondominated_ranks
from .plan import JobPlan, static_values
from .proposer import Candidates, Proposer, SpaceExhausted
from .proxy_trust import ProxyTrust, trusted
from .records import JobReason, TrialRecord
from .reference_sample import ReferenceSample
from .strategies import Proposal, is_modelled, make_strategy
from .taught_screen import Line, TaughtScreen
from .too_large import Sizes, is_too_large, sizes_of
from .warm_start import WarmStart, own_parents
from .workers.stages import unpack
from .workers.work import Outcome, Work

AUDIT_SHARE = 0.1
"""Of the trials whose screen drops something: a dropped candidate is tried."""
MAX_ROUNDS = 50
"""Batches of candidates in a row that break a limit on latency, or are too large for memory, before the job
ends as infeasible."""
ASKED_FOR = ("enqueued", "earlier")
"""Origins of proposals that are tried whatever happened to others."""
TICK_S = 0.25
"""How long a new question is waited for; after that its answer is looked for whenever work is."""


@dataclass(frozen=True, slots=True)
class Screening:
    """Candidates under way for one trial number."""

    number: int
    round: int
    proposals: tuple[Proposal, ...]
    asked_after: int
    ignored: frozenset[str] = frozenset()
    """Proxies that had no say when it was asked for."""
    beside: tuple[tuple[int, int, int], ...] = ()
    """Number, round and candidates of the screenings that were under way."""
    line: Line | None = None
    """What the trainings until then made of proxies and size."""
    too_large: tuple[Sizes, ...] = ()
    """What had run out of memory."""

    def described(self) -> dict[str, Any]:
        """What `search.replay` needs beside the events to ask the same question again."""
        return {
            "round": self.round,
            "beside": [list(one) for one in self.beside],
            "candidates": [proposal.architecture.id for proposal in self.proposals],
        }


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that the strategy has not answered yet, and what the screening needs to know of it."""

    screening: Screening
    """Without proposals."""
    was_alone: bool
    """No screening was under way whose candidates might become free again."""


class Screens:
    """The screenings of one job. `ended` and `message` say why there will be no more."""

    def __init__(
        self, ledger: Ledger, trust: ProxyTrust, history: History, earlier: WarmStart, *, beside: bool
    ) -> None:
        """`beside`: a strategy with a model is asked in a process of its own."""
        self.ended: JobReason | None = None
        self.message: str | None = None
        self._ledger = ledger
        self._trust = trust
        self._history = history
        self._plan = plan = ledger.plan
        self._sample = ReferenceSample(ledger)
        self._taught = TaughtScreen(ledger, self._sample, trust)
        self._fitted = FittedLatency(ledger)
        self._running: dict[str, Screening] = {}
        self._answered: dict[int, tuple[Screening, Outcome]] = {}
        self._redraw: dict[int, int] = {}
        """Trial numbers whose candidates all broke a limit, and the round to draw next."""
        self._alone: dict[int, Screening] = {}
        """Trial numbers whose screening failed with several candidates, to be screened with one."""
        proposer = make_proposer(plan, earlier)
        is_beside = beside and is_modelled(proposer.strategy)
        self._asks: Asks = Beside(proposer) if is_beside else Here(proposer)
        self._asked: _Asked | None = None

    def close(self) -> None:
        self._asks.close()

    def next_number(self) -> int:
        """The trial number that nothing was drawn for yet."""
        under_way = [screening.number for screening in self._running.values()]
        under_way += [self._asked.screening.number] if self._asked else []
        taken = [*under_way, *self._answered, *self._redraw, *self._alone]
        return max([self._ledger.num_search - 1, *taken]) + 1

    def may_propose(self, is_stagnant: Callable[[], bool] = lambda: False) -> bool:
        """Whether there is a candidate to screen: left over, or a new one within budget and time."""
        if self.ended:
            return False
        if self._alone or self._asked:
            return True
        if not self._redraw and (self.next_number() >= self._plan.spec.budget.trials or is_stagnant()):
            return False
        limit = self._plan.spec.budget.time
        return limit is None or self._ledger.elapsed_s() < limit

    def propose(self) -> Work | bool:
        """Asks the strategy for candidates of a trial and, once it has answered, a worker for their proxies
        and missing block latencies; first of all, for the proxies of the sample. False while there is no
        answer, except in a deterministic search, where nothing may depend on how long that takes."""
        if (work := self._sample.next()) is not None:
            return work
        if self._alone:
            return self._screen(self._alone.pop(min(self._alone)), scored=False)
        wait_s: float | None = 0.0
        if self._asked is None:
            self._ask()
            wait_s = TICK_S
        if self._plan.spec.strategy.deterministic:
            wait_s = None
        return self._draw(wait_s)

    def _ask(self) -> None:
        number, round = next(iter(self._redraw.items()), (self.next_number(), 0))
        self._redraw.pop(number, None)
        beside = self._open()
        rounds = tuple((one.number, one.round, len(one.proposals)) for one in beside)
        screening = Screening(
            number, round, (), self._ledger.last_event(), self._trust.distrusted(), rounds,
            self._taught.now(), tuple(self._ledger.too_large.values()),
        )  # fmt: skip
        pending = [
            *(self._ledger.architecture(row) for row in self._ledger.open_search_trials()),
            *(proposal.architecture for screening in beside for proposal in screening.proposals),
        ]
        count = self._plan.spec.screen.candidates
        history = self._history.told()
        self._asks.ask(Question(number, count, history, pending, round, self._history.ids))
        self._asked = _Asked(screening, was_alone=not self._running)

    def _draw(self, wait_s: float | None) -> Work | bool:
        """The screening of what the strategy answers to the question that is open."""
        assert self._asked is not None
        asked, screening = self._asked, self._asked.screening
        try:
            drawn = self._asks.answer(wait_s)
        except SpaceExhausted as error:
            self._asked = None
            if asked.was_alone:  # else what the others left unused may still be free
                self.ended, self.message = "space_exhausted", error.message
            elif screening.round:
                self._redraw[screening.number] = screening.round
            return False
        if drawn is None:
            return False
        self._asked = None
        self._count(drawn)
        is_scored = self._plan.spec.screen.candidates > 1 or self._plan.quality == PROXY_SCORE
        return self._screen(replace(screening, proposals=tuple(drawn.proposals)), scored=is_scored)

    def _count(self, drawn: Candidates) -> None:
        self._ledger.count(
            proposed=len(drawn.proposals),
            duplicates=drawn.duplicates,
            infeasible=drawn.infeasible,
            strategy_errors=drawn.strategy_errors,
        )

    def expected_growth(self) -> float | None:
        """What the strategy's model expects of its best candidate, as a fraction of the hypervolume."""
        return self._asks.expected_growth(self._history.told())

    def next_of_sample(self) -> Work | None:
        """Proxies of the sample that nobody has asked for yet."""
        return self._sample.next()

    @property
    def is_sampling(self) -> bool:
        return not self._sample.is_ready

    @property
    def is_idle(self) -> bool:
        """Nothing under way that may become a trial."""
        return not (self._running or self._answered or self._asked)

    def promised(self, scores: Mapping[str, Measurement]) -> dict[str, Measurement]:
        """What the proxies of an architecture say in place of a quality, in a job without training; empty
        where none of them is a number."""
        if self._plan.quality != PROXY_SCORE or not math.isfinite(rank := self._sample.ranks([scores])[0]):
            return {}
        flags = frozenset({UNVALIDATED})
        return {
            PROXY_SCORE: Measurement(quantity=PROXY_SCORE, value=rank, unit="1", kind="computed", flags=flags)
        }

    def take(self, key: str, outcome: Outcome) -> None:
        """The answer to a screening; it and those that waited for it become trials."""
        if key in self._sample.in_flight:
            self._sample.take(key, outcome)
        else:
            screening = self._running.pop(key)
            self._answered[screening.number] = screening, outcome
        while self._sample.is_ready and (number := self._ledger.num_search) in self._answered:
            self._settle(*self._answered.pop(number))

    def _screen(self, screening: Screening, *, scored: bool) -> Work:
        """With `scored` a candidate that stands alone has its proxies too, for they are judged later."""
        key = f"screen/{screening.number}/{screening.round}/{len(screening.proposals)}"
        self._running[key] = screening
        architectures = [proposal.architecture for proposal in screening.proposals]
        known = self._untimed(architectures) if self._is_fitted else self._ledger.known_blocks(architectures)
        payload = {
            "architectures": [architecture.canonical_json for architecture in architectures],
            "proxies": list(self._plan.proxies) if scored else [],
            "seed": self._plan.spec.strategy.seed,
            "known_blocks": sorted(known),
        }
        return Work(key, "screen", payload, self._plan.spec.limits.trial_timeout)

    @property
    def _is_fitted(self) -> bool:
        """Whether latencies come from models timed whole, not from blocks: without training, once it can."""
        return self._plan.quality == PROXY_SCORE and self._fitted.is_ready

    def _untimed(self, architectures: Sequence[Architecture]) -> set[str]:
        """Their blocks, of which none is to be timed."""
        return {block.id for one in architectures for block in blocks_of(one, self._plan.target)}

    def _open(self) -> list[Screening]:
        """Under way, by number: the order must not depend on who answered first."""
        answered = (screening for screening, _ in self._answered.values())
        found = [*self._running.values(), *answered, *self._alone.values()]
        return sorted(found, key=lambda screening: screening.number)

    def _settle(self, screening: Screening, outcome: Outcome) -> None:
        """One of the candidates becomes the trial, or the number is drawn or screened again."""
        if outcome.result is None:
            if len(screening.proposals) > 1:  # one of them brought it down: the first is tried alone
                self._alone[screening.number] = replace(screening, proposals=screening.proposals[:1])
            else:
                self._fail(screening, outcome.reason or "internal", outcome.message)
            return
        blocks = {block: unpack(value) for block, value in outcome.result["blocks"].items()}
        self._ledger.keep_blocks(blocks)
        scores = [{name: unpack(value) for name, value in row.items()} for row in outcome.result["proxies"]]
        self._keep_scores(screening, scores)
        timed = [
            index
            for index, proposal in enumerate(screening.proposals)
            if self._is_fitted or not self._ledger.know_blocks(proposal.architecture)
        ]
        if not timed:
            problems = [
                str(value.detail.get("reason", value.status))
                for value in blocks.values()
                if value.value is None
            ]
            self._fail(
                screening, "unsupported_operator", f"a block could not be timed: {'; '.join(problems)}"
            )
            return
        models = [screening.proposals[index].architecture for index in timed]
        found = self._fitted.predict(models) if self._is_fitted else self._ledger.predict(models)
        self._keep_one(screening, scores, dict(zip(timed, found, strict=True)))

    def _keep_one(
        self,
        screening: Screening,
        scores: Sequence[Mapping[str, Measurement]],
        latencies: Mapping[int, Measurement],
    ) -> None:
        """Of the candidates with a predicted latency, by index, the one that becomes the trial."""
        limit = self._plan.measured_limits.get("latency_s", math.inf)
        fitting = [index for index in latencies if self._fits(screening, screening.proposals[index])]
        allowed = [index for index in fitting if best_case(latencies[index]) <= limit]
        self._ledger.count(infeasible=len(latencies) - len(allowed))
        if allowed:
            chosen, is_audit = self._choose(screening, allowed, scores, latencies)
            self._ledger.count(screened_out=len(allowed) - 1)
            self._ledger.keep_prediction(screening.proposals[chosen].architecture, latencies[chosen])
            promised = self.promised(scores[chosen])
            known = {"latency_s": latencies[chosen], **promised}
            self._create(screening, chosen, known, flags=(AUDIT,) if is_audit else ())
        elif screening.round + 1 < MAX_ROUNDS:
            self._redraw[screening.number] = screening.round + 1
        else:
            self.ended = "infeasible"
            if not fitting:
                self.message = (
                    f"{MAX_ROUNDS} batches of candidates in a row were as large as what ran out of memory; "
                    "allow workers more of it (PARETOFORMER_WORKER_MEMORY), or narrow the space"
                )
                return
            self.message = (
                f"constraints.latency_s={limit:g} rejected {MAX_ROUNDS} batches of candidates in a row; "
                f"the fastest of the last was predicted at {min(map(best_case, latencies.values())):.4g} s "
                "at best; raise the limit or widen the space"
            )

    def _fits(self, screening: Screening, proposal: Proposal) -> bool:
        if not screening.too_large or proposal.origin in ASKED_FOR:
            return True
        sizes = sizes_of(static_values(proposal.architecture, self._plan.target))
        return not is_too_large(sizes, screening.too_large)

    def _fail(self, screening: Screening, reason: str, message: str) -> None:
        """The first candidate becomes a failed trial: its number is used, and it is not proposed again."""
        self._ledger.fail(self._create(screening, 0, {}), reason, message)

    def _choose(
        self,
        screening: Screening,
        allowed: Sequence[int],
        scores: Sequence[Mapping[str, Measurement]],
        latencies: Mapping[int, Measurement],
    ) -> tuple[int, bool]:
        """One of the candidates that no other beats in both proxy rank and predicted latency, by a seeded
        draw; now and then one of the others, True beside it, for what they say about the screen."""
        if len(allowed) == 1:
            return allowed[0], False
        ranks = self._ranks(screening, allowed, scores)
        points = [(rank, expected(latencies[index])) for rank, index in zip(ranks, allowed, strict=True)]
        best = [index for index, rank in zip(allowed, nondominated_ranks(points), strict=True) if rank == 0]
        rng = Random(f"{self._plan.spec.strategy.seed}/{screening.number}/screen")
        chosen, others = rng.choice(best), [index for index in allowed if index not in best]
        if others and rng.random() < AUDIT_SHARE:
            return rng.choice(others), True
        return chosen, False

    def _ranks(
        self, screening: Screening, allowed: Sequence[int], scores: Sequence[Mapping[str, Measurement]]
    ) -> list[float]:
        """Smaller is better: by the line of the trainings so far, before there is one by standing."""
        own = [scores[index] for index in allowed]
        if screening.line is None:
            return self._sample.ranks(trusted(own, screening.ignored))
        return screening.line.ranks([screening.proposals[index].architecture for index in allowed], own)

    def _create(
        self,
        screening: Screening,
        index: int,
        known: Mapping[str, Measurement],
        flags: tuple[str, ...] = (),
    ) -> TrialRecord:
        proposal = screening.proposals[index]
        return self._ledger.create_trial(
            screening.number, proposal.architecture, origin=proposal.origin,
            parents=own_parents(proposal.parents), note=proposal.note,
            asked_after=screening.asked_after, known=known, flags=flags, asked=screening.described(),
        )  # fmt: skip

    def _keep_scores(self, screening: Screening, scores: Sequence[Mapping[str, Measurement]]) -> None:
        seed = self._plan.spec.strategy.seed
        self._ledger.keep(
            self._ledger.record(
                proposal.architecture.id,
                value,
                proxy_fingerprint(proxy(name), digest=self._plan.data.digest),
                seed=seed,
            )
            for proposal, row in zip(screening.proposals, scores, strict=True)
            for name, value in row.items()
        )


def make_proposer(plan: JobPlan, earlier: WarmStart) -> Proposer:
    """The proposals of a job."""
    strategy = make_strategy(
        plan.spec.strategy.kind,
        plan.space,
        plan.spec.strategy.seed,
        plan.objectives,
        batch_size=plan.target.batch_size,
        tokens=plan.target.length,
        prior=earlier.prior,
    )
    return Proposer(
        strategy,
        plan.space,
        seed=plan.spec.strategy.seed,
        budget=plan.spec.budget.trials,
        enqueued=plan.enqueued,
        earlier=earlier.front,
        earlier_note=f"front of job {earlier.job_id[:8]}",
        limits=plan.static_limits,
        batch_size=plan.target.batch_size,
        tokens=plan.target.length,
    )


def expected(latency: Measurement) -> float:
    """A prediction's value; a prediction always has one."""
    assert latency.value is not None
    return latency.value


def best_case(latency: Measurement) -> float:
    """The lower end of a prediction's interval."""
    return expected(latency) - (latency.spread or 0.0)
