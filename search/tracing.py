"""Spans of OpenTelemetry around what a job's workers do: one for every piece of work, from the moment it is
handed out to its result.

Only the interface of OpenTelemetry is used here: without a provider a span is nothing. `api.telemetry` sets
one up.
"""

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

from .workers.work import Outcome, Work

_TRACER = "paretoformer"


class WorkSpans:
    """Open spans of one job, by the key of their work."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._open: dict[str, Span] = {}

    def begin(self, work: Work, trial: int | None) -> None:
        span = trace.get_tracer(_TRACER).start_span(f"trial {work.stage}")
        span.set_attribute("paretoformer.job", self._job_id)
        span.set_attribute("paretoformer.work", work.key)
        if trial is not None:
            span.set_attribute("paretoformer.trial", trial)
        self._open[work.key] = span

    def end(self, outcome: Outcome) -> None:
        """A failure's reason is of the closed list, and its message names no place of this machine."""
        span = self._open.pop(outcome.key, None)
        if span is None:
            return
        if outcome.result is None:
            reason = outcome.reason or "internal"
            span.set_attribute("paretoformer.reason", reason)
            span.set_status(StatusCode.ERROR, reason)
        span.end()

    def end_all(self) -> None:
        """What still runs is cancelled."""
        for span in self._open.values():
            span.set_attribute("paretoformer.reason", "cancelled")
            span.end()
        self._open.clear()
