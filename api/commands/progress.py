"""The live display of a search: redrawn on a terminal from the first second, elsewhere a line at times."""

import datetime as dt
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..interruption import stop_on_terminate
from ..logging import configure_logging

if TYPE_CHECKING:
    from search.coordinator import Coordinator
    from search.records import JobRecord, TrialRecord

_LINE_EVERY_S = 3.0
_SAME_LINE_EVERY_S = 15.0


class SearchProgress:
    """Use as a context manager; `say` before the job runs, `tick` while it runs."""

    def __init__(self, console: Console) -> None:
        self.job_id: str | None = None
        """Known from the first tick on."""
        self._is_ticking = False
        self._console = console
        self._began = time.monotonic()
        self._said = "starting"
        self._rows: list[tuple[str, str]] = []
        self._head = ""
        self._share: float | None = None
        self._line = ""
        self._line_at = 0.0
        self._live = (
            Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        configure_logging("warning")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            configure_logging("warning")  # to standard error again, not to the display that ended

    def say(self, text: str) -> None:
        """What happens now, before there is a job to look at."""
        self._said = text
        if self._live is None:
            self._print(text)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def tick(self, coordinator: "Coordinator") -> None:
        """Takes the state of the job; called by the coordinator about four times a second."""
        ledger = coordinator.ledger
        if not self._is_ticking:
            self._is_ticking = True
            stop_on_terminate()  # once more, now that Ray has started
        self.job_id = ledger.job.id
        self._look_at(ledger.job, ledger.search_trials, ledger.references)
        if self._live is None:
            self._maybe_print()

    def _look_at(
        self, job: "JobRecord", trials: "list[TrialRecord]", references: "list[TrialRecord]"
    ) -> None:
        from dashboards.summary import status
        from dashboards.wording import duration

        state = status(job, trials, references, dt.datetime.now(dt.UTC))
        self._share = state.percent / 100
        self._head = f"{job.name}  {job.id[:8]}  {job.state}"
        counts = f"{state.done}/{state.budget} trials"
        if state.references_total:
            counts += f", {state.references_done}/{state.references_total} references"
        if state.finalists:
            counts += f", {state.finalists} finalists"
        front = [trial for trial in trials if trial.on_front]
        left = f"about {state.left} of search left" if state.left else ""
        self._rows = [
            ("done", ", ".join(filter(None, (counts, left)))),
            ("now", running_words(job, [*references, *trials])),
            ("front", front_words(job, front)),
            ("best", best_words(job, front)),
        ]
        self._said = f"{duration(time.monotonic() - self._began)}"

    def _render(self) -> RenderableType:
        elapsed = time.monotonic() - self._began
        if self._share is None:
            return Spinner("dots", text=Text(f"{self._said}  ({elapsed:.0f} s)"))
        rows = Table(box=None, show_header=False, pad_edge=False)
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="fold")
        for name, value in self._rows:
            rows.add_row(name, Text(value))
        bar = Table.grid()
        bar.add_row(ProgressBar(total=1.0, completed=self._share, width=min(60, self._console.width)))
        return Group(Spinner("dots", text=Text(f"{self._head}  {elapsed:.0f} s")), bar, rows)

    def _maybe_print(self) -> None:
        line = "; ".join(f"{name} {value}" for name, value in self._rows if value)
        waited = time.monotonic() - self._line_at
        if waited >= (_LINE_EVERY_S if line != self._line else _SAME_LINE_EVERY_S):
            self._line = line
            self._print(line)

    def _print(self, text: str) -> None:
        self._line_at = time.monotonic()
        self._console.print(Text(f"[{self._line_at - self._began:5.0f} s] {text}"), soft_wrap=True)


def running_words(job: "JobRecord", trials: "list[TrialRecord]") -> str:
    """What the workers do, as far as the rows say."""
    from dashboards.wording import FINALISTS_TRAIN, is_over

    if is_over(job):
        return "nothing: the job is over"
    if job.context.get("search_ended"):
        if not job.context.get("finalists"):
            return "ending the search"
        return FINALISTS_TRAIN
    rungs = len(job.context.get("rung_steps") or ())
    busy = [trial for trial in trials if trial.state == "running"]
    words = [
        f"{trial.label} "
        + (f"training, rung {trial.rung + 1} of {rungs}" if trial.rung < rungs else "measuring")
        for trial in busy
    ]
    return ", ".join(words) or "drawing and screening candidates"


def front_words(job: "JobRecord", front: "list[TrialRecord]") -> str:
    """Size of the front and its hypervolume against the references'."""
    words = f"{len(front)} architecture{'' if len(front) == 1 else 's'}"
    from dashboards.summary import gain_words

    volume, reference = job.indicators.get("hypervolume"), job.indicators.get("reference_hypervolume")
    gain = job.indicators.get("hypervolume_gain")
    if not front:
        return words
    if volume is not None and reference is not None:
        words += f", hypervolume {volume:.3f}, references {reference:.3f}"
    return words + (f" ({gain_words(gain)})" if gain is not None else "")


def best_words(job: "JobRecord", front: "list[TrialRecord]") -> str:
    """The best member of the front on each of the first two objectives."""
    from dashboards.wording import label, shown
    from search.objectives import OBJECTIVES

    words = []
    for key in job.objectives[:2]:
        known = [trial for trial in front if key in trial.effective]
        if known:
            best = min(known, key=lambda trial: OBJECTIVES[key].minimised(trial.effective[key]))
            words.append(f"{label(key)} {shown(key, best.effective[key])} (trial {best.label})")
    return ", ".join(words)
