"""The frozen sample of a job's space that its proxies are read against.

Drawn from the space alone, in the same order in every job; scored by workers a few architectures at a time,
before the first candidate is chosen; stored like every other score, so that a coordinator that takes over, or
the next job on the same space and data, asks only for what is missing.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from random import Random

from evaluators.latency import blocks_of
from evaluators.protocol import Measurement
from evaluators.proxies import combined_rank, proxy, proxy_fingerprint
from evaluators.standing import BeyondSize, Standings
from space.architecture import Architecture
from space.costs import num_params
from space.sampling import sample

from .ledger import Ledger
from .objectives import PROXY_SCORE
from .workers.stages import unpack
from .workers.work import Outcome, Work

PIECE = 8
"""Architectures per piece of work."""
DRAWS = 4
"""Draws per architecture before the sample is taken as it is: small spaces have fewer."""
SEED = 0
"""Of its initial weights, whatever the job's is: jobs that differ in seeds alone share the scores."""

SAMPLED_WITHOUT_TRAINING = 256

Scores = Mapping[str, Measurement]


class ReferenceSample:
    """Empty where a job has nothing to rank with it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._plan = plan = ledger.plan
        size = plan.spec.screen.sample_of(plan.spec.budget.trials)
        if plan.quality == PROXY_SCORE:  # then it is what makes proxies a quality
            size = plan.spec.screen.sample or SAMPLED_WITHOUT_TRAINING
        self._size = size if plan.proxies else 0
        self._scores: dict[str, Scores] = {}
        self.in_flight: dict[str, tuple[Architecture, ...]] = {}

    @property
    def is_ready(self) -> bool:
        return self._size == 0 or not (self._pieces or self.in_flight)

    def next(self) -> Work | None:
        """Proxies of architectures that nobody has asked for yet."""
        if self._size == 0 or not self._pieces:
            return None
        models = self._pieces.pop()
        key = f"screen/sample/{models[0].id}"
        self.in_flight[key] = models
        blocks = {block.id for model in models for block in blocks_of(model, self._plan.target)}
        payload = {
            "architectures": [model.canonical_json for model in models],
            "proxies": list(self._plan.proxies),
            "seed": SEED,
            "known_blocks": sorted(blocks),  # their latencies are of no interest here
        }
        return Work(key, "screen", payload, self._plan.spec.limits.trial_timeout)

    def take(self, key: str, outcome: Outcome) -> None:
        """Architectures whose scoring failed leave the sample."""
        models = self.in_flight.pop(key)
        if outcome.result is None:
            return
        rows = [{name: unpack(value) for name, value in row.items()} for row in outcome.result["proxies"]]
        self._scores |= {model.id: row for model, row in zip(models, rows, strict=True)}
        self._ledger.keep(
            self._ledger.record(model.id, value, self._mark(name), seed=SEED)
            for model, row in zip(models, rows, strict=True)
            for name, value in row.items()
        )

    def ranks(self, scores: Sequence[Scores]) -> list[float]:
        """Smaller is better; against the sample, or without one among themselves."""
        if self._size == 0:
            return combined_rank(scores)
        return [-self._standings.of_scores(own) for own in scores]

    @property
    def beyond_size(self) -> BeyondSize | None:
        """What size does not explain of the proxies; None without a sample."""
        return self._beyond_size if self._size and self.is_ready and self._scores else None

    @cached_property
    def _standings(self) -> Standings:
        return Standings.of([self._scores[id] for id in sorted(self._scores)])

    @cached_property
    def _beyond_size(self) -> BeyondSize:
        ids = sorted(self._scores)
        return BeyondSize.of(
            [self._scores[id] for id in ids], [float(num_params(self._models[id])) for id in ids]
        )

    @cached_property
    def _pieces(self) -> list[tuple[Architecture, ...]]:
        """What is not stored yet."""
        self._scores |= self._stored(self._models)
        missing = [model for id, model in self._models.items() if id not in self._scores]
        return [tuple(missing[start : start + PIECE]) for start in range(0, len(missing), PIECE)][::-1]

    @cached_property
    def _models(self) -> dict[str, Architecture]:
        found: dict[str, Architecture] = {}
        for index in range(DRAWS * self._size):
            if len(found) == self._size:
                break
            model = sample(self._plan.space, Random(f"sample/{index}"))
            found.setdefault(model.id, model)
        return found

    def _stored(self, models: Mapping[str, Architecture]) -> dict[str, Scores]:
        """Of the architectures whose every proxy is stored."""
        columns = {
            name: self._ledger.scores(models, name, self._mark(name), seed=SEED)
            for name in self._plan.proxies
        }
        return {
            id: {name: column[id] for name, column in columns.items()}
            for id in models
            if all(id in column for column in columns.values())
        }

    def _mark(self, name: str) -> str:
        return proxy_fingerprint(proxy(name), digest=self._plan.data.digest)
