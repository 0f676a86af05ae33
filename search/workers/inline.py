"""The executor for tests, notebooks and debugging: everything runs in the calling process, one piece at a
time."""

from collections import deque
from types import TracebackType
from typing import Self

from .stages import Bench, outcome_of
from .work import Outcome, Work


class InlineExecutor:
    """One slot. Work runs inside `poll`; a time limit cannot interrupt it and is not enforced."""

    num_slots = 1

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._queue: deque[Work] = deque()

    @property
    def num_busy(self) -> int:
        return len(self._queue)

    def submit(self, work: Work) -> None:
        self._queue.append(work)

    def poll(self, timeout_s: float) -> list[Outcome]:
        del timeout_s  # nothing runs beside the caller
        return [outcome_of(self._queue.popleft(), self._bench)] if self._queue else []

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
