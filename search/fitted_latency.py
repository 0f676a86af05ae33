"""Latency of architectures that nobody times, from the work of those that were timed whole.

    log t = f(calls, arithmetic and bytes per role, layers of every mixer)     f: `evaluators.predictors`

For jobs without training: a block that was never timed costs a session of its own, and there a thousand
architectures bring thousands of them. The interval is wide where few models of a kind were timed, which is
why the front is measured at the end.
"""

from collections.abc import Sequence

from evaluators.predictors import LatencyPredictor, fit_latency, work_of
from evaluators.protocol import Measurement
from space.architecture import Architecture

from .ledger import Ledger

ENOUGH = 5
"""Models timed whole before anything is fitted."""


class FittedLatency:
    """Fitted anew whenever another model was timed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._fitted: tuple[int, LatencyPredictor] | None = None

    @property
    def is_ready(self) -> bool:
        return len(self._timed()) >= ENOUGH

    def predict(self, architectures: Sequence[Architecture]) -> list[Measurement]:
        fitted = self._predictor()
        rows = [self._work(one) for one in architectures]
        low, high = fitted.intervals(rows)
        return [
            Measurement(
                quantity="latency_s",
                value=float(value),
                unit="s",
                kind="predicted",
                spread=float(above - below) / 2,
                repeats=len(fitted.residuals),
                detail={"method": fitted.method, "timed": len(fitted.residuals)},
            )
            for value, below, above in zip(fitted.predict(rows), low, high, strict=True)
        ]

    def _timed(self) -> list[tuple[Architecture, float]]:
        rows = (self._ledger.trials[number] for number in sorted(self._ledger.trials))
        found = {
            row.architecture_id: (self._ledger.architecture(row), row.values["latency_s"])
            for row in rows
            if row.kinds.get("latency_s") == "measured"
        }
        return list(found.values())

    def _predictor(self) -> LatencyPredictor:
        timed = self._timed()
        if self._fitted is None or self._fitted[0] != len(timed):
            fitted = fit_latency([self._work(one) for one, _ in timed], [seconds for _, seconds in timed])
            self._fitted = len(timed), fitted
        return self._fitted[1]

    def _work(self, architecture: Architecture) -> dict[str, float]:
        target = self._ledger.plan.target
        tokens = target.tokens(architecture)
        return dict(work_of(architecture, batch_size=target.batch_size, tokens=tokens, phase=target.phase))
