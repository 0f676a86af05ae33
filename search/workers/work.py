"""What the coordinator hands to a worker and what comes back: small plain records, no database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

Stage = Literal["screen", "train", "measure"]


@dataclass(frozen=True, slots=True)
class Work:
    """One stage of one trial. `key` is unique among what is in flight."""

    key: str
    stage: Stage
    payload: Mapping[str, Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a piece of work: a result, or a reason and a message. Reasons are those of
    `search.records.TrialReason`, and `disk_full`, which is no fault of the trial.
    """

    key: str
    result: Mapping[str, Any] | None = None
    reason: str | None = None
    message: str = ""
    log: tuple["LogLine", ...] = ()
    """What the worker had to say meanwhile."""

    @property
    def lost(self) -> bool:
        """The worker died; the work itself may be fine."""
        return self.reason == "worker_lost"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a worker's log."""

    at: float
    """Unix seconds, the worker's clock."""
    level: str
    text: str


class Executor(Protocol):
    """Runs work. One thread uses it; `close` kills whatever still runs and leaves nothing behind."""

    @property
    def num_slots(self) -> int: ...

    @property
    def num_busy(self) -> int: ...

    @property
    def has_workers(self) -> bool:
        """Whether anybody could work now; False while all have died and none is back."""

    @property
    def is_in_process(self) -> bool:
        """Work runs in the coordinator's own process, which dies with it."""

    def submit(self, work: Work) -> None:
        """Starts `work`; a slot must be free."""

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        """What ended since the last call; waits up to `timeout_s` for the first. Overdue work ends as
        `timeout`."""

    def cancel_all(self) -> None:
        """Kills running work; its outcomes never arrive."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
