"""The proxies of a job against its own trainings, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.records import JobRecord
from search.verdicts import LEAST, LINE_KEY, ProxyVerdict, stored

MEANING: Mapping[str, str] = {
    "useful": "orders architectures of equal size as published",
    "wrong sign": "orders them the other way round, and is left out of the standing",
    "no evidence": "says nothing beyond size so far",
}


@dataclass(frozen=True, slots=True)
class ProxyRow:
    """One proxy in words and numbers."""

    proxy: str
    verdict: str
    meaning: str
    tone: str
    trainings: int
    tau: str
    params_tau: str
    partial: str
    interval: str


def proxy_rows(job: JobRecord) -> list[ProxyRow]:
    """Those that were judged; none before enough trainings have finished, or in an older job."""
    return [_row(one) for one in stored(job.context)[0]]


def waiting_words(rows: Sequence[ProxyRow]) -> str:
    """Why the table is empty; nothing when it is not."""
    return "" if rows else f"Known once {LEAST} trainings that a proxy has screened are finished."


def line_words(job: JobRecord) -> str:
    """How the screen reads candidates now; empty before its trainings say."""
    line = job.context.get(LINE_KEY)
    if not line:
        return ""
    if line["tau"] <= 0.0:
        return (
            f"A line through {line['trainings']} trainings of this job orders those it has not seen no "
            "better than chance; the screen reads candidates by their standing."
        )
    weights = ", ".join(f"{name.replace('_', ' ')} {_signed(w)}" for name, w in line["weights"].items())
    return (
        f"The screen reads candidates by a line through {line['trainings']} trainings of this job, which "
        f"orders those it has not seen with tau {_signed(line['tau'])}. Weights per standard deviation: "
        f"{weights}; of a proxy only what parameter count does not explain."
    )


def _row(one: ProxyVerdict) -> ProxyRow:
    return ProxyRow(
        proxy=one.proxy,
        verdict=one.verdict,
        meaning=MEANING[one.verdict],
        tone={"useful": "good", "wrong sign": "bad"}.get(one.verdict, ""),
        trainings=one.trainings,
        tau=_signed(one.tau),
        params_tau=_signed(one.params_tau),
        partial=_signed(one.partial),
        interval="" if one.low is None else f"{_signed(one.low)} to {_signed(one.high)}",
    )


def _signed(value: float | None) -> str:
    """
    >>> _signed(0.456), _signed(-0.1), _signed(None)
    ('+0.46', '-0.10', '-')
    """
    return "-" if value is None else f"{value:+.2f}"
