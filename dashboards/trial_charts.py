"""The charts of a trial page, each with its table."""

from collections.abc import Mapping, Sequence

from search.records import JobRecord, MeasurementRecord, TrialRecord

from .anatomy import BlockTime, LayerMemory, PlannedBlock, block_times, layer_memory
from .charts import Chart
from .figures import blocks_figure, curve_figure, learning_curves, memory_figure
from .figures.curves import curve_key
from .wording import factor, label, shown


def trial_charts(
    job: JobRecord,
    trial: TrialRecord,
    measurements: Sequence[MeasurementRecord],
    plan: Sequence[PlannedBlock] = (),
    blocks: Mapping[str, Sequence[MeasurementRecord]] | None = None,
) -> dict[str, Chart]:
    """Learning curve, latency by block and memory by layer. `blocks`: measurements by block id."""
    return {
        "curve": _curve(job, measurements),
        "blocks": _blocks(trial, block_times(job, plan, blocks or {})),
        "memory": _memory(trial, layer_memory(job, trial)),
    }


def _curve(job: JobRecord, measurements: Sequence[MeasurementRecord]) -> Chart:
    curves = learning_curves(job, measurements)
    rows = [(curve.seed, step, value) for curve in curves for step, value in curve.validation]
    return Chart(curve_figure(job, curves), ("seed", "step", f"{label(curve_key(job))}, validation"), rows)


def _blocks(trial: TrialRecord, times: Sequence[BlockTime]) -> Chart:
    total = sum(time.seconds for time in times)
    rows = [
        (
            place,
            time.block.name,
            time.block.kind.replace("_", " "),
            1e3 * time.seconds,
            None if time.spread_s is None else 1e3 * time.spread_s,
            100 * time.seconds / total,
            ", ".join(time.flags),
        )
        for place, time in enumerate(times, start=1)
    ]
    columns = ("place", "block", "kind", "latency (ms)", "± (ms)", "% of the sum", "flags")
    return Chart(blocks_figure(times), columns, rows, _blocks_words(trial, total) if times else "")


def _blocks_words(trial: TrialRecord, total: float) -> str:
    words = f"The blocks add up to {shown('latency_s', total)}, each measured alone on the job's device."
    whole = trial.values.get("latency_s")
    if whole is None or total <= 0:
        return words
    if trial.kinds.get("latency_s") != "measured":
        return f"{words} The prediction for the whole model is {shown('latency_s', whole)}."
    return f"{words} The whole model takes {shown('latency_s', whole)}, {factor(whole / total)} of that."


def _memory(trial: TrialRecord, layers: Sequence[LayerMemory]) -> Chart:
    rows = [
        (layer.name, layer.weights_bytes / 1024, layer.state_bytes / 1024, layer.activation_bytes / 1024)
        for layer in layers
    ]
    columns = ("part", "weights (KiB)", "state (KiB)", "activations (KiB)")
    whole = trial.values.get("memory_bytes")
    words = "In closed form. Weights and states add up over the layers; of activations the largest counts"
    note = f"{words}: {shown('memory_bytes', whole)} in all." if whole is not None else f"{words}."
    return Chart(memory_figure(layers), columns, rows, note if layers else "")
