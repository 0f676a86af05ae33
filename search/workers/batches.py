"""Work in batches of a fixed size: what makes a search the same for any number of workers.

    ask for up to k pieces of work -> run all of them, on however many workers -> take the results in the
    order in which the work was given

Between the first and the last answer of a batch nothing is decided, so every decision sees the same results
whoever was quick. A batch that has begun is worked to its end, also while the job is paused or stopping.
What is timed stays as it is: two measurements of one latency are never equal.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from .work import Executor, Outcome, Work


class Batches:
    """An executor around another one, with as many slots as a batch has places."""

    def __init__(self, inner: Executor, size: int) -> None:
        self._inner = inner
        self._size = size
        self._waiting: list[Work] = []
        """Of the batch, not handed over yet."""
        self._order: list[str] = []
        """Keys of the batch as they were given."""
        self._ended: dict[str, Outcome] = {}
        self._is_closed = False

    @property
    def num_slots(self) -> int:
        return self._size

    @property
    def num_busy(self) -> int:
        """All of them once a batch has begun: it gets no more work."""
        return self._size if self._is_closed else len(self._order)

    @property
    def has_workers(self) -> bool:
        return self._inner.has_workers

    @property
    def is_in_process(self) -> bool:
        return self._inner.is_in_process

    def submit(self, work: Work) -> None:
        self._order.append(work.key)
        self._waiting.append(work)

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        """All results of the batch at once, or none yet."""
        if not self._order:
            return []
        self._is_closed = True
        while self._waiting and self._inner.num_busy < self._inner.num_slots:
            self._inner.submit(self._waiting.pop(0))
        self._ended |= {outcome.key: outcome for outcome in self._inner.poll(timeout_s)}
        if len(self._ended) < len(self._order):
            return []
        found = [self._ended[key] for key in self._order]
        self._clear()
        return found

    def _clear(self) -> None:
        self._waiting, self._order, self._ended = [], [], {}
        self._is_closed = False

    def cancel_all(self) -> None:
        self._inner.cancel_all()
        self._clear()

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
