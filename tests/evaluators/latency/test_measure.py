"""Real measurements of small models: what they say, what they cost, what they refuse."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.latency import EstimatorLimits, Target, measure_model, quiet_host
from evaluators.latency.estimator import flags_of
from evaluators.latency.reference import ReferenceHistory, reference_architecture, reference_format
from evaluators.latency.runtimes import Failure, InputShape, TimedFile, TimingTask, eager, time_files
from evaluators.latency.runtimes.onnxruntime import PROCESS_FILE
from evaluators.latency.target import Runtime
from evaluators.latency.timed_input import timed_input
from space.architecture import Architecture
from space.errors import InvalidInputError, UnsupportedError
from space.export import export_onnx
from space.model import build_model
from space.quantization import NumberFormat

Factory = Callable[..., Architecture]

QUICK = EstimatorLimits(max_seconds=0.2, max_runs=40, noisy_half_width=10.0, attempts=1, rounds=1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.mark.parametrize("model", ["decoder", "encoder", "vision"])
@pytest.mark.parametrize("number_format", ["fp32", "int8_dynamic"])
def test_a_model_is_measured_in_its_number_format(
    model: str, number_format: str, make: Factory, scratch: Path
) -> None:
    architecture = make(model, number_format=number_format)
    measured = measure_model(build_model(architecture), architecture, Target(), limits=QUICK, scratch=scratch)
    assert (measured.quantity, measured.unit, measured.kind) == ("latency_s", "s", "measured")
    assert measured.value is not None
    assert 1e-6 < measured.value < 0.1
    assert measured.spread is not None
    assert measured.spread >= 0
    assert measured.detail["conditions"]["number_formats"] == [number_format] * 2
    assert measured.detail["conditions"]["batch_size"] == 1
    assert list(measured.detail["quantiles_s"]) == ["1", "5", "10", "25", "50", "75", "90", "95", "99"]
    assert measured.value <= measured.detail["p50_s"] <= measured.detail["p95_s"]


@pytest.mark.parametrize("number_format", ["fp32", "int8_dynamic", "bf16"])
def test_eager_torch_is_measured_in_this_process(number_format: str, make: Factory, scratch: Path) -> None:
    architecture = make(number_format=number_format)
    before = torch.get_num_threads()
    target = Target(runtime="eager", batch_size=2, length=9)
    measured = measure_model(build_model(architecture), architecture, target, limits=QUICK, scratch=scratch)
    assert measured.value is not None
    assert measured.value > 0
    assert measured.detail["conditions"]["length"] == 9
    assert set(measured.detail["kernels"].values()) <= {"no kernels on cpu"}
    assert ("int8_linear" in measured.detail["kernels"]) == (number_format == "int8_dynamic")
    assert torch.get_num_threads() == before


def test_several_threads_are_measured(make: Factory, scratch: Path) -> None:
    for runtime in ("onnxruntime", "eager"):
        target = Target(runtime=runtime, threads=2)
        measured = measure_model(build_model(make()), make(), target, limits=QUICK, scratch=scratch)
        assert measured.value is not None
        assert len(measured.detail["conditions"]["cores"]) == 2


@pytest.mark.parametrize(
    ("number_format", "runtime"),
    [("bf16", "onnxruntime"), ("int4_g32", "eager"), ("fp4_g32", "eager"), ("fp4_g32", "onnxruntime")],
)
def test_a_format_is_not_measured_where_it_is_simulated(
    number_format: str, runtime: Runtime, make: Factory, scratch: Path
) -> None:
    architecture, target = make(number_format=number_format), Target(runtime=runtime)
    with pytest.raises(UnsupportedError, match=f"layer 0: number format '{number_format}' is simulated"):
        measure_model(build_model(architecture), architecture, target, limits=QUICK, scratch=scratch)


def test_more_threads_than_cores_or_a_length_beyond_the_context_are_refused(
    make: Factory, scratch: Path
) -> None:
    model = build_model(make())
    with pytest.raises(InvalidInputError, match="threads=1000 is more than"):
        measure_model(model, make(), Target(threads=1000), limits=QUICK, scratch=scratch)
    with pytest.raises(InvalidInputError, match="longer than the architecture's context of 16"):
        measure_model(model, make(), Target(length=17), limits=QUICK, scratch=scratch)


def test_a_measurement_waits_for_the_host(
    make: Factory, scratch: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = build_model(make())
    done = threading.Event()

    def measure() -> None:
        measure_model(model, make(), Target(runtime="eager"), limits=QUICK, scratch=scratch)
        done.set()

    with quiet_host(1.0):
        thread = threading.Thread(target=measure)
        thread.start()
        assert not done.wait(0.5)
    assert done.wait(20)
    thread.join()


def timing_task(path: Path, architecture: Architecture) -> TimingTask:
    file = TimedFile(path, InputShape((1, architecture.tokens), "int64", 256))
    return TimingTask(file, file, QUICK)


def test_a_file_that_breaks_fails_alone_and_says_why(make: Factory, tmp_path: Path) -> None:
    good = export_onnx(build_model(make()), make(), tmp_path / "good.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(good.read_bytes()[:-2000])
    tasks = [timing_task(path, make()) for path in (good, broken, good)]
    first, second, third = time_files(tasks, threads=1)
    assert not isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert second.reason == "internal"
    assert not isinstance(third, Failure)


@pytest.mark.slow
def test_a_task_that_hangs_is_killed_and_the_next_goes_on(
    make: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe without a writer in place of a file blocks whoever opens it."""
    good = export_onnx(build_model(make()), make(), tmp_path / "good.onnx")
    endless = tmp_path / "endless.onnx"
    os.mkfifo(endless)
    monkeypatch.setattr("evaluators.latency.runtimes.onnxruntime.START_S", 4.0)
    monkeypatch.setattr("evaluators.latency.runtimes.onnxruntime.WARM_UPS_S", 0.0)
    stuck, fine = time_files([timing_task(p, make()) for p in (endless, good)], threads=1)
    assert isinstance(stuck, Failure)
    assert stuck.reason == "timeout"
    assert not isinstance(fine, Failure)


def test_the_timing_process_imports_neither_torch_nor_this_project(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(
        json.dumps(
            {
                "tasks": [{"task": "run", "file": "none", "inputs": [], "outputs": []}],
                "threads": 1,
                "cores": [0],
                "estimator": str(PROCESS_FILE.parents[1] / "estimator.py"),
            }
        )
    )
    run = subprocess.run(
        [sys.executable, "-P", str(PROCESS_FILE), str(request)], capture_output=True, text=True, check=True
    )
    assert '"modules": []' in run.stdout


def history(folder: Path, number_format: NumberFormat = "fp32", threads: int = 1) -> ReferenceHistory:
    return ReferenceHistory(folder, Target(threads=threads), number_format)


def test_the_long_run_value_settles_as_the_median_of_the_first_values(tmp_path: Path) -> None:
    """And stays in slow hours, and in hours that are faster by less than a tenth: it is a unit."""
    fp32 = history(tmp_path)
    assert fp32.long_run_s() is None
    for value in [0.0020, 0.0019, 0.0024] + [0.0020] * 13:
        fp32.add(value)
    for value in [0.0030] * 300 + [0.00185, 0.0021] * 100:
        fp32.add(value)
        assert fp32.long_run_s() == 0.0020
    assert history(tmp_path, threads=2).long_run_s() is None
    assert history(tmp_path, "int8_dynamic").long_run_s() is None


def test_a_machine_that_proves_faster_lowers_the_value_once(tmp_path: Path) -> None:
    fp32 = history(tmp_path)
    for value in [0.0019] * 16 + [0.0012] * 11:
        fp32.add(value)
    assert fp32.long_run_s() == 0.0019
    for value in [0.0012] * 5 + [0.0013] * 40:
        fp32.add(value)
    assert fp32.long_run_s() == 0.0012


def test_a_damaged_file_is_an_empty_history(tmp_path: Path) -> None:
    history(tmp_path).add(0.002)
    for text in ('{"damaged', '{"long_run_s": -1, "newest": []}', "[0.002]"):
        history(tmp_path).path.write_text(text)
        assert history(tmp_path).long_run_s() is None
    history(tmp_path).add(0.003)
    assert history(tmp_path).long_run_s() == 0.003


def test_the_reference_is_frozen() -> None:
    """Stored latencies are in units of it: another id makes them incomparable."""
    assert reference_architecture().id == "e59cd9fb63f0aac17554e3f1e082d7c3"
    assert reference_format(frozenset({"int8_dynamic"})) == "int8_dynamic"
    assert reference_format(frozenset({"int8_dynamic", "fp32"})) == "fp32"


def test_affinity_and_threads_are_put_back_after_an_error() -> None:
    before = (os.sched_getaffinity(0), torch.get_num_threads())
    for threads in (1, 2):
        with contextlib.suppress(ZeroDivisionError), eager.conditions(threads):
            assert len(os.sched_getaffinity(0)) == threads
            raise ZeroDivisionError
        assert (os.sched_getaffinity(0), torch.get_num_threads()) == before


@pytest.mark.slow
def test_a_network_twice_as_deep_takes_twice_as_long(make: Factory, tmp_path: Path) -> None:
    """One stands as the reference of the other: with a long-run value of 1 s the value is their ratio."""
    limits = EstimatorLimits(max_seconds=2.0)
    files = []
    for num_layers in (4, 8):
        architecture = make(num_layers=num_layers, d_model=128, tokens=64)
        path = export_onnx(build_model(architecture, seed=0), architecture, tmp_path / f"{num_layers}.onnx")
        files.append(timing_task(path, architecture).candidate)
    ratios = []
    for _ in range(5):  # one process may have a bad layout: the middle of five is compared
        with quiet_host(60.0):
            (result,) = time_files([TimingTask(files[1], files[0], limits, long_run_s=1.0)], threads=1)
        assert not isinstance(result, Failure)
        if not flags_of(result, limits):
            ratios.append(result.value_s)
    if len(ratios) < 3:
        pytest.skip(f"the host is busy: {len(ratios)} of 5 measurements were undisturbed")
    assert 1.8 < statistics.median(ratios) < 2.2


@pytest.mark.slow
def test_f48_a_measurement_on_a_busy_host_ends_and_is_near_the_quiet_one(
    make: Factory, scratch: Path
) -> None:
    architecture = make(num_layers=4, d_model=64, tokens=64)
    model = build_model(architecture, seed=0)
    limits = EstimatorLimits(max_seconds=0.5, attempts=1)
    quiet = measure_model(model, architecture, Target(), limits=limits, scratch=scratch)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.2)
        busy = measure_model(model, architecture, Target(), limits=limits, scratch=scratch)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert quiet.value is not None
    assert busy.value is not None
    assert 0.5 < busy.value / quiet.value < 2.0
    assert busy.detail["p95_s"] >= busy.value
    assert dataclasses.asdict(busy)["wall_s"] < 30


def test_a_session_has_the_shape_of_its_input_and_computes_the_same(make: Factory, tmp_path: Path) -> None:
    """Free axes are fixed, so that shape arithmetic is done before the first call."""
    spec = importlib.util.spec_from_file_location("ort_process", PROCESS_FILE)
    assert spec is not None
    assert spec.loader is not None
    process = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(process)
    for model, fixed in (("decoder", [3, 16]), ("vision", [3, 1, 8, 8])):
        architecture = make(model)
        path = export_onnx(build_model(architecture, seed=0), architecture, tmp_path / f"{model}.onnx")
        inputs = dataclasses.asdict(timed_input(architecture, 3))
        free, own = (process.session(str(path), shape, threads=1) for shape in ((), tuple(fixed)))
        assert own.get_inputs()[0].shape == fixed
        assert own.get_outputs()[0].shape[0] == 3
        values = {own.get_inputs()[0].name: process.random_values(inputs)}
        np.testing.assert_allclose(own.run(None, values)[0], free.run(None, values)[0], rtol=1e-5, atol=1e-6)
