"""The search itself: which piece of work comes next, and what a result means for its trial.

    proposal -> screen -> train rung 1 -> ... -> train last rung -> measure whole -> counted
                (k candidates, one kept)  (promoted or pruned)     (only what could join the front)

References go the same way without screen and promotion. A result that stands in the database already, from
this job or an earlier one, is taken from there.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from evaluators.protocol import Measurement
from evaluators.proxies import combined_rank, proxy, proxy_fingerprint
from space.architecture import Architecture

from .ledger import Ledger
from .multifidelity import Promotion, RungResult, next_promotion
from .objectives import minimised
from .pareto import dominates, log_scaled, nondominated_ranks, violation
from .proposer import Proposer, SpaceExhausted
from .proxy_trust import ProxyTrust, trusted
from .records import FINAL_TRIAL_STATES, TrialRecord
from .strategies import Proposal, Told, make_strategy
from .workers.stages import unpack
from .workers.work import Outcome, Work

log = logging.getLogger(__name__)

MAX_ROUNDS = 50
"""Batches of candidates in a row that break a limit on latency before the job ends as infeasible."""


@dataclass(frozen=True, slots=True)
class Screening:
    """Candidates under way for one trial number."""

    number: int
    round: int
    proposals: tuple[Proposal, ...]
    asked_after: int
    ignored: frozenset[str] = frozenset()
    """Proxies that had no say when it was asked for."""


class SearchStage:
    """References, proposals, rungs and measurements of one job."""

    def __init__(self, ledger: Ledger, in_flight: Callable[[str], bool]) -> None:
        self.message: str | None = None
        self._ledger = ledger
        self._in_flight = in_flight
        self._plan = plan = ledger.plan
        self._rungs = plan.spec.training.rung_steps()
        self._screenings: dict[str, Screening] = {}
        self._screened: dict[int, tuple[Screening, Outcome]] = {}
        """Answers for later numbers, kept until the earlier ones have become trials: numbers have no gaps."""
        self._redraw: dict[int, int] = {}
        """Trial numbers whose candidates all broke a limit, and the round to draw next."""
        self._alone: dict[int, Screening] = {}
        """Trial numbers whose screening failed with several candidates, to be screened with one."""
        self._owner: dict[str, int] = {}
        """Trial number behind the key of a training or a measurement."""
        self._ended: str | None = None
        self._trust = ProxyTrust(ledger)
        self._proposer = Proposer(
            make_strategy(
                plan.spec.strategy.kind,
                plan.space,
                plan.spec.strategy.seed,
                plan.objectives,
                batch_size=plan.target.batch_size,
                tokens=plan.target.length,
            ),
            plan.space,
            seed=plan.spec.strategy.seed,
            budget=plan.spec.budget.trials,
            enqueued=plan.enqueued,
            limits=plan.static_limits,
            batch_size=plan.target.batch_size,
            tokens=plan.target.length,
        )

    def prepare(self) -> None:
        """Creates the reference trials, once per job."""
        for index, reference in enumerate(self._plan.references, start=1):
            if -index not in self._ledger.trials:
                self._ledger.create_trial(
                    -index, reference.architecture, origin="reference", note=reference.name,
                    asked_after=self._ledger.last_event(), known={},
                )  # fmt: skip

    @property
    def reason(self) -> str | None:
        """Why the search is over; asked when nothing is in flight and `next` had nothing to give."""
        if self._may_propose() or self._next_waiting() or self._promotable() is not None:
            return None
        if self._ended:
            return self._ended
        return "budget_reached" if self._next_number() >= self._plan.spec.budget.trials else "time_reached"

    def next(self) -> Work | None:
        while True:
            step = self._step()
            if step is not True:
                return step or None

    def _step(self) -> Work | bool:
        """Work to start; True when something was settled without work; False when there is nothing to do.

        What is furthest goes first: measurements, then promotions. References and new trials start in turn,
        so that the front and what it is compared with grow together.
        """
        waiting = self._next_waiting()
        for trial in waiting:
            if trial.rung == len(self._rungs) and (step := self._measure(trial)):
                return step
        if (promotion := self._promotable()) and (step := self._train(self._ledger.trials[promotion.number])):
            return step
        for trial in waiting:
            is_ahead = trial.number < 0 and trial.rung == 0 and -trial.number > self._next_number()
            if is_ahead and self._may_propose():
                return self._propose()
            if trial.rung < len(self._rungs) and (step := self._train(trial)):
                return step
        return self._propose() if self._may_propose() else False

    def take(self, work: Work, outcome: Outcome) -> None:
        if work.stage == "screen":
            self._take_screening(work.key, outcome)
            return
        trial = self._ledger.trials[self._owner.pop(work.key)]
        if outcome.result is None:
            self._ledger.fail(trial, outcome.reason or "internal", outcome.message)
        elif work.stage == "train":
            self._take_training(trial, work, outcome.result)
        else:
            self._take_measures(trial, outcome.result)
        self._trust.look()

    # -- trials ------------------------------------------------------------------------------------

    def _next_waiting(self) -> list[TrialRecord]:
        """Trials that may go on without being promoted, the most trained first: new ones, references, and
        those past the last rung."""
        rows = [
            trial
            for trial in self._ledger.trials.values()
            if trial.state == "waiting" and (trial.rung in (0, len(self._rungs)) or trial.number < 0)
        ]
        return sorted(rows, key=lambda trial: (-trial.rung, abs(trial.number), trial.number))

    def _train(self, trial: TrialRecord) -> Work | bool:
        """A training to the trial's next rung, unless it is stored or runs for a sibling in another
        format."""
        steps = self._rungs[trial.rung]
        if metrics := self._ledger.trained(trial.training_id, steps):
            self._ledger.reach(trial, metrics, rung=trial.rung + 1, steps=steps)
            return True
        architecture = self._ledger.architecture(trial).with_number_format("fp32")
        work = training_work(self._ledger, architecture, asdict(self._plan.training), repeat=0, until=steps)
        if self._in_flight(work.key):
            return False
        self._owner[work.key] = trial.number
        self._ledger.set_state(trial, "running")
        return work

    def _take_training(self, trial: TrialRecord, work: Work, result: Mapping[str, Any]) -> None:
        metrics = self._ledger.keep_training(
            trial.training_id, result, mark=self._ledger.search_mark, repeat=0
        )
        self._ledger.reach(trial, metrics, rung=trial.rung + 1, steps=int(result["step"]))

    def _measure(self, trial: TrialRecord) -> Work | bool:
        """Exports and measures a trial whole; one that cannot join the front is counted with its
        prediction."""
        if trial.number >= 0 and not self._could_join(trial):
            self._ledger.complete(trial)
            return True
        work = measuring_work(
            self._ledger, trial, mark=self._ledger.search_mark, steps=self._rungs[-1], repeat=0
        )
        if work is None:  # the checkpoint is gone: train the last rung again
            self._ledger.step_back(trial, len(self._rungs) - 1)
            return True
        if isinstance(work, Mapping):
            self._ledger.complete(self._ledger.take_values(trial, work))
            return True
        if self._in_flight(work.key):
            return False
        self._owner[work.key] = trial.number
        self._ledger.set_state(trial, "running")
        return work

    def _take_measures(self, trial: TrialRecord, result: Mapping[str, Any]) -> None:
        found = self._ledger.keep_measures(
            trial, result, mark=self._ledger.search_mark, steps=self._rungs[-1], repeat=0
        )
        self._ledger.complete(self._ledger.take_values(trial, found))

    def _could_join(self, trial: TrialRecord) -> bool:
        """Whether the trial, at the best its prediction allows, is dominated by no measured trial."""
        values = dict(trial.values)
        for key, spread in trial.spread.items():
            if trial.kinds.get(key) == "predicted":
                values[key] = spread.low
        values = comparable(values)
        if violation(values, self._plan.measured_limits) > 0:
            return False
        best = minimised(values, self._plan.objectives)
        return not any(
            dominates(minimised(other.values, self._plan.objectives), best)
            for other in self._ledger.search_trials
            if other.on_front
        )

    def _promotable(self) -> Promotion | None:
        """The trial that multi-objective successive halving lets go on now."""
        results = [
            RungResult(number, rung, self._vector(number, value))
            for (number, rung), value in self._ledger.rung_quality.items()
            if number >= 0 and self._ledger.trials[number].state != "failed"
        ]
        waiting = {trial.number for trial in self._ledger.search_trials if trial.state == "waiting"}
        return next_promotion(
            results, waiting, num_rungs=len(self._rungs), reduction=self._plan.spec.training.reduction
        )

    def _vector(self, number: int, quality: float) -> tuple[float, ...]:
        """Objectives at a rung, logarithmic where they are; latency and costs do not depend on fidelity."""
        values = {**comparable(self._ledger.trials[number].values), self._plan.quality: quality}
        return log_scaled(minimised(values, self._plan.objectives), self._plan.objectives)

    # -- proposals ---------------------------------------------------------------------------------

    def _next_number(self) -> int:
        under_way = [screening.number for screening in self._screenings.values()]
        return (
            max(
                [
                    len(self._ledger.search_trials) - 1,
                    *under_way,
                    *self._screened,
                    *self._redraw,
                    *self._alone,
                ]
            )
            + 1
        )

    def _may_propose(self) -> bool:
        if self._ended:
            return False
        if self._alone:
            return True
        if not self._redraw and self._next_number() >= self._plan.spec.budget.trials:
            return False
        limit = self._plan.spec.budget.time
        return limit is None or self._ledger.elapsed_s() < limit

    def _propose(self) -> Work | bool:
        """Draws candidates for a trial and asks for their proxies and missing block latencies."""
        if self._alone:
            return self._screen(self._alone.pop(min(self._alone)), scored=False)
        number, round = next(iter(self._redraw.items()), (self._next_number(), 0))
        self._redraw.pop(number, None)
        asked_after = self._ledger.last_event()
        open_trials = [row for row in self._ledger.search_trials if row.state not in FINAL_TRIAL_STATES]
        open_proposals = [one for screening in self._open_screenings() for one in screening.proposals]
        pending = [
            *(self._ledger.architecture(row) for row in open_trials),
            *(proposal.architecture for proposal in open_proposals),
        ]
        try:
            drawn = self._proposer.candidates(
                number, self._plan.spec.screen.candidates, self._history(), pending, round=round
            )
        except SpaceExhausted as error:
            if not self._screenings:  # else what those leave unused may still be free
                self._ended, self.message = "space_exhausted", error.message
            elif round:
                self._redraw[number] = round
            return False
        self._ledger.count(
            proposed=len(drawn.proposals),
            duplicates=drawn.duplicates,
            infeasible=drawn.infeasible,
            strategy_errors=drawn.strategy_errors,
        )
        ignored = self._trust.distrusted()
        drawn_once = Screening(number, round, tuple(drawn.proposals), asked_after, ignored)
        return self._screen(drawn_once, scored=self._plan.spec.screen.candidates > 1)

    def _screen(self, screening: Screening, *, scored: bool) -> Work:
        """With `scored` a candidate that stands alone has its proxies too, for they are judged later."""
        key = f"screen/{screening.number}/{screening.round}/{len(screening.proposals)}"
        self._screenings[key] = screening
        architectures = [proposal.architecture for proposal in screening.proposals]
        for architecture in architectures:
            self._ledger.know_blocks(architecture)
        payload = {
            "architectures": [architecture.canonical_json for architecture in architectures],
            "proxies": list(self._plan.proxies) if scored else [],
            "seed": self._plan.spec.strategy.seed,
            "known_blocks": sorted(self._ledger.blocks),
        }
        return Work(key, "screen", payload, self._plan.spec.limits.trial_timeout)

    def _open_screenings(self) -> list[Screening]:
        answered = (screening for screening, _ in self._screened.values())
        return [*self._screenings.values(), *answered, *self._alone.values()]

    def _history(self) -> list[Told]:
        """Every trial with a result; those short of the last rung say so, so that fidelities never mix."""
        limits = self._plan.measured_limits
        return [
            Told(
                trial.number,
                self._ledger.architecture(trial),
                minimised(comparable(trial.values), self._plan.objectives) if trial.rung else None,
                feasible="infeasible" not in trial.flags,
                violation=violation(trial.values, limits),
                complete=trial.state == "completed",
                fidelity=self._rungs[trial.rung - 1] / self._rungs[-1] if trial.rung else 1.0,
            )
            for trial in self._ledger.search_trials
            if trial.state in FINAL_TRIAL_STATES or trial.rung
        ]

    def _take_screening(self, key: str, outcome: Outcome) -> None:
        screening = self._screenings.pop(key)
        self._screened[screening.number] = screening, outcome
        while (number := len(self._ledger.search_trials)) in self._screened:
            self._settle(*self._screened.pop(number))

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
            if not self._ledger.know_blocks(proposal.architecture)
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
        found = self._ledger.predict([screening.proposals[index].architecture for index in timed])
        latencies = dict(zip(timed, found, strict=True))
        limit = self._plan.measured_limits.get("latency_s")
        allowed = [
            index for index, latency in latencies.items() if limit is None or best_case(latency) <= limit
        ]
        self._ledger.count(infeasible=len(latencies) - len(allowed))
        if allowed:
            chosen = self._choose(screening.number, allowed, trusted(scores, screening.ignored), latencies)
            self._ledger.count(screened_out=len(allowed) - 1)
            self._ledger.keep_prediction(screening.proposals[chosen].architecture, latencies[chosen])
            self._create(screening, chosen, {"latency_s": latencies[chosen]})
        elif screening.round + 1 < MAX_ROUNDS:
            self._redraw[screening.number] = screening.round + 1
        else:
            self._ended = "infeasible"
            self.message = (
                f"constraints.latency_s={limit:g} rejected {MAX_ROUNDS} batches of candidates in a row; "
                f"the fastest of the last was predicted at {min(map(best_case, found)):.4g} s at best; "
                "raise the limit or widen the space"
            )

    def _fail(self, screening: Screening, reason: str, message: str) -> None:
        """The first candidate becomes a failed trial: its number is used, and it is not proposed again."""
        self._ledger.fail(self._create(screening, 0, {}), reason, message)

    def _choose(
        self,
        number: int,
        allowed: Sequence[int],
        scores: Sequence[Mapping[str, Measurement]],
        latencies: Mapping[int, Measurement],
    ) -> int:
        """One of the candidates that no other beats in both proxy rank and predicted latency, by a seeded
        draw."""
        if len(allowed) == 1:
            return allowed[0]
        ranks = combined_rank([scores[index] for index in allowed])
        points = [(rank, expected(latencies[index])) for rank, index in zip(ranks, allowed, strict=True)]
        best = [index for index, rank in zip(allowed, nondominated_ranks(points), strict=True) if rank == 0]
        return Random(f"{self._plan.spec.strategy.seed}/{number}/screen").choice(best)

    def _create(self, screening: Screening, index: int, known: Mapping[str, Measurement]) -> TrialRecord:
        proposal = screening.proposals[index]
        return self._ledger.create_trial(
            screening.number, proposal.architecture, origin=proposal.origin, parents=proposal.parents,
            note=proposal.note, asked_after=screening.asked_after, known=known,
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


def expected(latency: Measurement) -> float:
    """A prediction's value; a prediction always has one."""
    assert latency.value is not None
    return latency.value


def best_case(latency: Measurement) -> float:
    """The lower end of a prediction's interval."""
    return expected(latency) - (latency.spread or 0.0)


def comparable(values: Mapping[str, float]) -> dict[str, float]:
    """Values in which the predicted 10th percentile stands for the latency percentiles nobody has measured
    yet, which lie above it. For comparisons only, never stored."""
    if "latency_s" not in values:
        return dict(values)
    return {**dict.fromkeys(("latency_p50_s", "latency_p95_s"), values["latency_s"]), **values}


def training_work(
    ledger: Ledger,
    architecture: Architecture,
    plan: Mapping[str, Any],
    *,
    repeat: int,
    until: int,
    teacher: str | None = None,
) -> Work:
    """Training of an fp32 form to `until` steps of a schedule; equal weights share a key, whoever asks.
    `teacher`: JSON of the architecture behind the checkpoint that the plan names."""
    seed = ledger.training_seed(repeat)
    payload = {
        "architecture": architecture.canonical_json,
        "plan": dict(plan),
        "seed": seed,
        "until": until,
        "teacher": teacher,
    }
    key = f"train/{architecture.id}/{plan['steps']}/{seed}"
    return Work(key, "train", payload, ledger.plan.spec.limits.trial_timeout)


def measuring_work(
    ledger: Ledger,
    trial: TrialRecord,
    *,
    mark: str,
    steps: int,
    repeat: int,
    final: bool = False,
    with_latency: bool = True,
) -> Work | Mapping[str, Measurement] | None:
    """Work that measures a trained trial in its number formats; the stored numbers when all are known; None
    when its checkpoint is gone."""
    stored = ledger.measured(
        trial, mark=mark, steps=steps, repeat=repeat, final=final, with_latency=with_latency
    )
    if stored is not None:
        return stored
    checkpoint = ledger.checkpoint(trial.training_id, mark=mark, steps=steps, repeat=repeat)
    if checkpoint is None:
        return None
    payload = {
        "architecture": ledger.architecture(trial).canonical_json,
        "checkpoint": checkpoint,
        "parts": ["validation", "test"] if final else ["validation"],
        "latency": with_latency and ledger.latency(trial, final=final) is None,
    }
    key = f"measure/{trial.architecture_id}/{steps}/{repeat}"
    return Work(key, "measure", payload, ledger.plan.spec.limits.trial_timeout)
