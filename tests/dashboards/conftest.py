"""A finished job with trials and references made by formula; flags and indicators by the real code."""

import datetime as dt
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from search.indicators import indicators
from search.job import JobSpec
from search.objectives import minimised
from search.pareto import front
from search.records import ArtefactRecord, Final, JobRecord, MeasurementRecord, Spread, TrialRecord
from space.architecture import parse_architecture

NOW = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
DEVICE = "cpu/Example CPU @ 2.5 GHz/2 cores/1 threads/onnxruntime 1.23.0"
MIXERS: list[dict[str, Any]] = [
    {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
    {"kind": "linear_elu", "num_heads": 4},
    {"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 4, "window": 32},
    {"kind": "gated_conv", "width": 7, "gates": 2},
    {"kind": "pool", "width": 5},
]


def layer(mixer: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "mixer": mixer,
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 168},
        "norm": {"kind": "rmsnorm"},
        "placement": "pre",
        "residual": "serial",
        "number_format": "fp32",
        **more,
    }


def decoder(layers: Sequence[dict[str, Any]], d_model: int = 64) -> dict[str, Any]:
    """Checked and canonical, as the database holds it."""
    raw = {
        "model": "decoder",
        "interface": {"input": "bytes", "vocab_size": 256, "context_length": 128, "outputs": 256},
        "d_model": d_model,
        "position": {"kind": "rope"},
        "layers": list(layers),
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language", "tied": False},
    }
    return parse_architecture(raw).model_dump(mode="json")


def make_job(**changes: Any) -> JobRecord:
    spec = JobSpec.model_validate(
        {
            "name": "a small code model",
            "budget": {"trials": 24},
            "training": {"steps": 150},
            "finalists": {"count": 3, "seeds": 3, "steps": 150},
        }
    ).model_dump(mode="json")
    job = JobRecord(
        id="0190c5f2aa10b7d4e8f3c6a1b2d4e6f8",
        name="a small code model",
        tenant="local",
        state="completed",
        reason="budget_reached",
        message=None,
        spec={**spec, "objectives": ["bits_per_byte", "latency_s"]},
        objectives=("bits_per_byte", "latency_s"),
        context={
            "task": {
                "parts": {"train": 2_000_000, "validation": 512, "test": 512},
                "part_unit": {"train": "bytes", "validation": "windows", "test": "windows"},
                "floors": {"order0": 4.61, "order1": 3.41, "order2": 2.71},
            },
            "data_digest": "9f" * 32,
            "target": spec["target"] | {"length": 128},
            "device_key": DEVICE,
            "space_size": "123456789012345678",
            "warnings": ["number format bf16 is not real on onnxruntime; it was removed from the space"],
            "rung_steps": [38, 75, 150],
        },
        counters={"proposed": 61, "duplicates": 5, "screened_out": 37},
        indicators={},
        stage="search",
        created_at=NOW - dt.timedelta(minutes=9),
        started_at=NOW - dt.timedelta(minutes=8),
        ended_at=NOW,
        lease_owner=None,
        lease_until=None,
        fence=1,
        version=7,
    )
    return replace(job, **changes)


def make_trial(number: int, architecture: dict[str, Any] | None = None, **changes: Any) -> TrialRecord:
    one = parse_architecture(decoder([layer(MIXERS[0])]) if architecture is None else architecture)
    trial = TrialRecord(
        job_id=make_job().id,
        number=number,
        origin="reference" if number < 0 else "mutation",
        parents=(),
        note="",
        asked_after=0,
        architecture_id=one.id,
        training_id=one.training_id,
        architecture=one.model_dump(mode="json"),
        state="completed",
        reason=None,
        message=None,
        attempt=1,
        rung=3,
        steps=150,
        values={"bits_per_byte": 2.5, "latency_s": 1e-3, "params": 1e5, "memory_bytes": 4e5},
        spread={"latency_s": Spread(0.98e-3, 1.03e-3, 40)},
        kinds={
            "bits_per_byte": "measured",
            "latency_s": "measured",
            "params": "computed",
            "memory_bytes": "computed",
        },
        flags=(),
        final=None,
        on_front=False,
        created_at=NOW - dt.timedelta(minutes=7),
        ended_at=NOW - dt.timedelta(minutes=5),
    )
    return replace(trial, **changes)


def trial_with(number: int, quality: float, latency_s: float, **changes: Any) -> TrialRecord:
    trial = make_trial(number, **changes)
    values = {**trial.values, "bits_per_byte": quality, "latency_s": latency_s}
    spread = {
        "latency_s": Spread(latency_s * 0.98, latency_s * 1.03, 40),
        "bits_per_byte": Spread(quality - 0.03, quality + 0.03, 1),
    }
    return replace(trial, values=values, spread=spread)


def flagged(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Pareto flags as the storage keeps them: among completed trials with measured latency."""
    keys = make_job().objectives
    counted = [t for t in trials if t.state == "completed" and t.kinds.get("latency_s") == "measured"]
    numbers = {counted[index].number for index in front([minimised(one.effective, keys) for one in counted])}
    return [replace(trial, on_front=trial.number in numbers) for trial in trials]


def sample_references() -> list[TrialRecord]:
    found = []
    combinations = itertools.product(((2, 48), (4, 96)), ("fp32", "int8_dynamic"), ("GPT-like", "LLaMA-like"))
    for index, ((depth, width), number_format, family) in enumerate(combinations, start=1):
        one = decoder([layer(MIXERS[0], number_format=number_format)] * depth, width)
        work = depth * width / 96
        quality = 2.95 - 0.3 * work**0.5 + (0.05 if family == "GPT-like" else 0) + 0.01 * (index % 3)
        latency_s = 0.55e-3 * work ** (0.8 if number_format == "int8_dynamic" else 1.1)
        note = f"{family}, {depth} layers of {width}"
        found.append(trial_with(-index, quality, latency_s, architecture=one, note=note))
    return flagged(found)


def sample_trials() -> list[TrialRecord]:
    rng = random.Random(3)
    found = []
    for number in range(24):
        depth, width = rng.randint(1, 4), rng.choice([32, 48, 64, 96, 128])
        number_format = rng.choice(["fp32", "int8_dynamic"])
        layers = [
            layer(
                rng.choice(MIXERS),
                number_format=number_format,
                feed_forward={"kind": "glu", "activation": "silu", "d_ff": 8 * rng.randint(8, 40)},
            )
            for _ in range(depth)
        ]
        work = depth * width / 96
        quality = 2.82 - 0.33 * work**0.5 + rng.uniform(0, 0.45)
        latency_s = 0.42e-3 * work * rng.uniform(0.8, 1.6)
        trial = trial_with(number, quality, latency_s, architecture=decoder(layers, width))
        trial = replace(
            trial, parents=(number // 2,) if number > 8 else (), values={**trial.values, "params": 3e4 * work}
        )
        if number % 7 == 5:
            trial = replace(trial, kinds={**trial.kinds, "latency_s": "predicted"})
        if number == 11:
            trial = replace(trial, flags=("noisy",))
        if number in (13, 17, 20):
            trial = replace(trial, state="pruned", rung=1, steps=38)
        if number == 22:
            message = "loss is not finite at step 17"
            trial = replace(trial, state="failed", reason="diverged", message=message, values={}, spread={})
        found.append(trial)
    return flagged(found)


def with_finals(trials: Sequence[TrialRecord], count: int = 3, steps: int = 150) -> list[TrialRecord]:
    """The first `count` front members retrained with three seeds."""
    chosen = [trial.number for trial in trials if trial.on_front][:count]
    return [_finalist(trial, steps) if trial.number in chosen else trial for trial in trials]


def _finalist(trial: TrialRecord, steps: int) -> TrialRecord:
    quality = trial.values["bits_per_byte"] - 0.02
    final = Final(
        seeds=3,
        steps=steps,
        values={"bits_per_byte": quality, "latency_s": trial.values["latency_s"]},
        spread={
            "bits_per_byte": Spread(quality - 0.012, quality + 0.012, 3),
            "latency_s": trial.spread["latency_s"],
        },
        test={"bits_per_byte": quality + 0.06},
        test_spread={"bits_per_byte": Spread(quality + 0.04, quality + 0.08, 3)},
    )
    return replace(trial, final=final)


def make_measurement(
    trial: TrialRecord, quantity: str, value: float | None, **changes: Any
) -> MeasurementRecord:
    record = MeasurementRecord(
        subject=trial.architecture_id,
        quantity=quantity,
        fingerprint="f" * 32,
        fidelity=0,
        seed=0,
        value=value,
        unit={"latency_s": "s", "bits_per_byte": "bits"}.get(quantity, "1"),
        kind="measured",
        status="ok",
        spread=None,
        repeats=40,
        execution="real",
        flags=(),
        wall_s=1.0,
        detail={},
        device_key=DEVICE,
        created_at=NOW,
    )
    return replace(record, **changes)


def sample_measurements(trial: TrialRecord) -> list[MeasurementRecord]:
    """A training of three rungs with its curve, a predicted and a measured latency."""
    latency_s = trial.values.get("latency_s", 1e-3)
    conditions = {"runtime": "onnxruntime", "threads": 1, "batch_size": 1, "length": 128}
    rungs = [
        make_measurement(
            trial,
            "bits_per_byte",
            5.0 - 2.4 * (step / 150) ** 0.4,
            subject=trial.training_id,
            fidelity=step,
            spread=0.02,
            detail={"curve": [[s, 3.6 - 1.7 * (s / 150) ** 0.4] for s in range(1, step + 1, 4)]},
        )
        for step in (38, 75, 150)
    ]
    device = {"cpu": "Example CPU @ 2.5 GHz", "torch": "2.13.0"}
    return [
        *rungs,
        make_measurement(
            trial, "latency_s", 1.1 * latency_s, kind="predicted", created_at=NOW - dt.timedelta(1)
        ),
        make_measurement(
            trial,
            "latency_s",
            latency_s,
            spread=0.02 * latency_s,
            detail={"conditions": conditions, "p50_s": 1.05 * latency_s, "device": device},
        ),
    ]


def sample_job(trials: Sequence[TrialRecord], references: Sequence[TrialRecord], **changes: Any) -> JobRecord:
    job = make_job(**changes)
    return replace(job, indicators=indicators(trials, references, job.objectives))


def make_export(trial: TrialRecord, **changes: Any) -> ArtefactRecord:
    export = ArtefactRecord(
        id="e" * 32,
        job_id=trial.job_id,
        trial=trial.number,
        kind="export",
        state="ready",
        request={"formats": ["torch", "onnx"], "quantize": "int8"},
        path="exports/e",
        size_bytes=1_234_567,
        sha256="ab" * 32,
        message=None,
        report={"model.int8.onnx": {"max_difference": 0.004}},
        created_at=NOW,
        ended_at=NOW,
    )
    return replace(export, **changes)


@pytest.fixture(scope="session")
def now() -> dt.datetime:
    return NOW


@pytest.fixture(scope="session")
def new_job() -> Callable[..., JobRecord]:
    return make_job


@pytest.fixture(scope="session")
def new_trial() -> Callable[..., TrialRecord]:
    """number, quality, latency_s, **changes -> a completed trial."""
    return trial_with


@pytest.fixture(scope="session")
def new_architecture() -> Callable[..., dict[str, Any]]:
    """One changed layer each, by keyword -> the JSON of a decoder."""
    return lambda *layers, d_model=64: decoder(
        [layer(**{"mixer": MIXERS[0], **one}) for one in layers], d_model
    )


@pytest.fixture(scope="session")
def new_measurement() -> Callable[..., MeasurementRecord]:
    return make_measurement


@pytest.fixture(scope="session")
def new_export() -> Callable[..., ArtefactRecord]:
    return make_export


@pytest.fixture(scope="session")
def measured() -> Callable[[TrialRecord], list[MeasurementRecord]]:
    """Everything stored of a trial: three rungs with curve, predicted and measured latency."""
    return sample_measurements


@pytest.fixture(scope="session")
def finals() -> Callable[..., list[TrialRecord]]:
    """trials, count, steps -> the same with the first front members retrained."""
    return with_finals


@pytest.fixture(scope="session")
def references() -> list[TrialRecord]:
    return sample_references()


@pytest.fixture(scope="session")
def trials() -> list[TrialRecord]:
    return sample_trials()


@pytest.fixture(scope="session")
def job(trials: list[TrialRecord], references: list[TrialRecord]) -> JobRecord:
    return sample_job(trials, references)
