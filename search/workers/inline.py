"""The executor for tests, notebooks and debugging: everything runs in the calling process, one piece at a
time."""

from collections import deque
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from .deadline import Overdue, deadline
from .stages import Bench, outcome_of
from .work import Outcome, Work


class InlineExecutor:
    """One slot. Work runs inside `poll`; its time limit ends it between two steps (see `deadline`)."""

    num_slots = 1
    has_workers = True
    is_in_process = True

    def __init__(self, bench: Bench, *, turn: AbstractContextManager[object] | None = None) -> None:
        """`turn`: held while work runs, when several jobs of a process take turns."""
        self._bench = bench
        self._turn = turn or nullcontext()
        self._queue: deque[Work] = deque()

    @property
    def num_busy(self) -> int:
        return len(self._queue)

    def submit(self, work: Work) -> None:
        self._queue.append(work)

    def poll(self, timeout_s: float) -> list[Outcome]:
        del timeout_s  # nothing runs beside the caller
        return [self._run(self._queue.popleft())] if self._queue else []

    def _run(self, work: Work) -> Outcome:
        try:
            with self._turn, deadline(work.timeout_s):
                return outcome_of(work, self._bench)
        except Overdue:
            return Outcome(work.key, reason="timeout", message=f"stopped after {work.timeout_s:.0f} s")

    def cancel_all(self) -> None:
        self._queue.clear()

    def close(self) -> None:
        self.cancel_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
