"""The front of a job as it would be on a device that is not at hand: analytic, not measured.

Quality is what the job measured; only the latency is another one, from the device's data sheet or from its
calibration. So architectures that lose here may win there, which is why more than the front is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluators.devices import Device, predict_on
from search.objectives import OBJECTIVES
from search.pareto import front
from search.records import JobRecord, TrialRecord
from space.architecture import parse_architecture
from space.errors import ServiceError

from .anatomy import target_of
from .charts import Chart
from .figures.forecast import forecast_figure
from .wording import axis_title


@dataclass(frozen=True, slots=True)
class Forecast:
    """One trial or reference on the other device; latencies in seconds."""

    trial: TrialRecord
    quality: float
    """In the shown unit."""
    here_s: float | None
    there_s: float
    low_s: float
    high_s: float
    fits: bool
    is_front_there: bool = False


def forecasts(job: JobRecord, trials: Sequence[TrialRecord], device: Device) -> list[Forecast]:
    """Completed trials whose latency there can be worked out, fastest there first."""
    quality = job.objectives[0]
    found = []
    for trial in trials:
        if trial.state == "completed" and quality in trial.effective:
            one = _forecast(job, trial, device)
            if one is not None:
                found.append(one)
    found.sort(key=lambda one: (one.there_s, one.trial.number))
    sign = -1 if OBJECTIVES[quality].maximise else 1
    flagged: dict[int, bool] = {}
    for is_reference in (False, True):
        group = [one for one in found if (one.trial.number < 0) == is_reference and one.fits]
        members = set(front([(sign * one.quality, one.there_s) for one in group])) if group else set()
        flagged |= {one.trial.number: place in members for place, one in enumerate(group)}
    return [replace(one, is_front_there=flagged.get(one.trial.number, False)) for one in found]


def _forecast(job: JobRecord, trial: TrialRecord, device: Device) -> Forecast | None:
    target, quality = target_of(job), job.objectives[0]
    try:
        architecture = parse_architecture(trial.architecture)
        found = predict_on(
            architecture,
            device,
            batch_size=target.batch_size,
            tokens=target.tokens(architecture),
            phase=target.phase,
        )
    except ServiceError:
        return None
    if found.value is None:
        return None
    measured = trial.effective.get("latency_s") if trial.kinds.get("latency_s") == "measured" else None
    scale = OBJECTIVES[quality].display_scale
    return Forecast(
        trial=trial,
        quality=scale * trial.effective[quality],
        here_s=measured,
        there_s=found.value,
        low_s=float(found.detail["low_s"]),
        high_s=float(found.detail["high_s"]),
        fits=bool(found.detail["fits"]),
    )


def forecast_chart(job: JobRecord, found: Sequence[Forecast], device: Device) -> Chart:
    """The figure and its table, fastest there first."""
    rows = [
        (
            one.trial.label,
            "reference" if one.trial.number < 0 else "search",
            one.quality,
            None if one.here_s is None else 1e3 * one.here_s,
            1e3 * one.there_s,
            1e3 * one.low_s,
            1e3 * one.high_s,
            "yes" if one.fits else "no",
            "yes" if one.trial.on_front else "no",
            "yes" if one.is_front_there else "no",
        )
        for one in found
    ]
    columns = (
        "trial", "group", axis_title(job.objectives[0]), "measured here (ms)", "predicted there (ms)",
        "from (ms)", "to (ms)", "fits in memory", "on the front here", "on the front there",
    )  # fmt: skip
    return Chart(forecast_figure(job, found, device.title), columns, rows, forecast_words(found))


def forecast_words(found: Sequence[Forecast]) -> str:
    """What changes on the way there, in a sentence."""
    own = [one for one in found if one.trial.number >= 0]
    here = {one.trial.number for one in own if one.trial.on_front}
    there = {one.trial.number for one in own if one.is_front_there}
    if not own:
        return ""
    words = f"Of {len(here)} on the front here {len(here & there)} would be on the front there"
    joined = sorted(there - here)
    if not joined:
        return f"{words}, and no other of the {len(own)} trials asked."
    named = ", ".join(map(str, joined[:6])) + (" and more" if len(joined) > 6 else "")
    return (
        f"{words}; {len(joined)} of the other {len(own) - len(here)} trials asked would join them: {named}."
    )
