from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dashboards import block_plan
from dashboards.anatomy import QUANTITY, block_times, layer_memory, target_of
from dashboards.figures import blocks_figure, memory_figure
from dashboards.figures.anatomy import NO_BLOCKS, NO_MEMORY
from dashboards.trial_charts import trial_charts
from search.records import JobRecord, MeasurementRecord, TrialRecord
from space.architecture import parse_architecture
from space.costs import costs

NewArchitecture = Callable[..., dict[str, Any]]
Measure = Callable[..., MeasurementRecord]


@pytest.fixture
def trial(new_trial: Callable[..., TrialRecord], new_architecture: NewArchitecture) -> TrialRecord:
    layers: list[dict[str, Any]] = [
        {},
        {"mixer": {"kind": "pool", "width": 5}, "number_format": "int8_dynamic"},
    ]
    trial: TrialRecord = new_trial(3, 2.5, 1e-3, architecture=new_architecture(*layers))
    return trial


def timed(job: JobRecord, trial: TrialRecord, new_measurement: Measure) -> dict[str, list[MeasurementRecord]]:
    """Block i takes i + 1 tenths of a millisecond; one has an older value, and one of another machine."""
    found: dict[str, list[MeasurementRecord]] = {}
    for place, block in enumerate(block_plan(job, trial)):
        now = new_measurement(trial, QUANTITY, 1e-4 * (place + 1), subject=block.id, spread=1e-6, unit="s")
        older = replace(now, value=9.0, created_at=now.created_at.replace(year=2001))
        found[block.id] = [now, older, replace(now, value=7.0, device_key="elsewhere")]
    return found


def test_blocks_are_named_by_their_layer(job: JobRecord, trial: TrialRecord) -> None:
    plan = block_plan(job, trial)
    assert [block.name for block in plan] == [
        "embedding", "layer 1 mixer", "layer 1 feed-forward", "layer 2 mixer", "layer 2 feed-forward", "head",
    ]  # fmt: skip
    assert [block.kind for block in plan] == ["", "softmax", "glu", "pool", "glu", ""]


def test_the_newest_measurement_on_the_jobs_device_counts(
    job: JobRecord, trial: TrialRecord, new_measurement: Measure
) -> None:
    plan = block_plan(job, trial)
    measured = timed(job, trial, new_measurement)
    times = block_times(job, plan, measured)
    assert [time.seconds for time in times] == pytest.approx([1e-4 * (i + 1) for i in range(6)])
    del measured[plan[2].id]
    assert block_times(job, plan, measured) == [], "a sum without one of its parts would be a wrong number"


def test_shares_of_the_layers_add_up_to_the_whole(job: JobRecord, trial: TrialRecord) -> None:
    target = target_of(job)
    architecture = parse_architecture(trial.architecture)
    whole = costs(architecture, batch_size=target.batch_size, tokens=target.tokens(architecture))
    parts = layer_memory(job, trial)
    assert [part.name for part in parts] == ["embedding and head", "layer 1 (fp32)", "layer 2 (int8)"]
    assert sum(part.weights_bytes for part in parts) == whole.weights_bytes
    assert sum(part.state_bytes for part in parts) == whole.state_bytes
    assert max(part.activation_bytes for part in parts) == whole.activation_bytes


def test_what_cannot_be_taken_apart_is_said(job: JobRecord, trial: TrialRecord) -> None:
    strange = replace(trial, architecture={**trial.architecture, "model": "unheard of"})
    assert block_plan(job, strange) == []
    assert layer_memory(job, strange) == []
    assert blocks_figure([]).layout.annotations[0].text.replace("<br>", " ") == NO_BLOCKS
    assert memory_figure([]).layout.annotations[0].text.replace("<br>", " ") == NO_MEMORY


def test_figures_and_tables_say_the_same(
    job: JobRecord, trial: TrialRecord, new_measurement: Measure
) -> None:
    plan = block_plan(job, trial)
    charts = trial_charts(job, trial, [], plan, timed(job, trial, new_measurement))
    blocks, memory = charts["blocks"], charts["memory"]
    assert list(blocks.figure.data[0].x) == pytest.approx([row[3] for row in blocks.rows])
    assert sum(float(row[5] or 0) for row in blocks.rows) == pytest.approx(100)
    assert "0.476× of that" in blocks.note
    weights = next(trace for trace in memory.figure.data if trace.name == "weights")
    assert list(weights.x) == [row[1] for row in memory.rows]
