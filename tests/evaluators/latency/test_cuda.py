"""The estimator for CUDA devices with events of its own, and what machines without and with one say."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch

from evaluators.devices import calibrate
from evaluators.latency import (
    EstimatorLimits,
    Target,
    blocks_of,
    check_target,
    measure_blocks,
    measure_memory,
    measure_model,
)
from evaluators.latency.estimator import is_calm
from evaluators.latency.runtimes.cuda import (
    RUNS,
    WARM_UP_RUNS,
    DeviceEvents,
    allocated_bytes,
    clock_hz,
    estimate_on_device,
    graphed,
    uncaptured,
)
from evaluators.latency.target import Phase, Runtime
from space.architecture import Architecture
from space.choice import Surroundings
from space.errors import InvalidInputError, UnsupportedError
from space.feedforward import FEED_FORWARDS
from space.gene import Value
from space.layer_options import feed_forward_config, mixer_config
from space.mixers import MIXERS
from space.model import build_model
from space.positions import NonePositionConfig

Factory = Callable[..., Architecture]

LIMITS = EstimatorLimits()
QUICK = EstimatorLimits(max_seconds=0.1, max_runs=16, noisy_half_width=10.0, attempts=1, rounds=1)
WAITS = {"moe"}
"""Choices whose plain form asks how many tokens an expert has; their kernel does not."""

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@pytest.fixture
def small(make: Factory) -> Callable[[str], Architecture]:
    """Two layers with a mixer or feed-forward of this kind."""
    at = Surroundings(d_model=32, context_length=16, num_layers=2, causal=True, position=NonePositionConfig())

    def architecture(kind: str) -> Architecture:
        if kind in FEED_FORWARDS:
            genes: dict[str, Value] = {"feed_forward": kind, "ff_ratio": 2}
            return make(feed_forward=feed_forward_config(genes, at).model_dump())
        genes = {"mixer": kind, "head_width": 8, "kv_heads": "full", "window": 5}
        return make(mixer=mixer_config(genes, at).model_dump())

    return architecture


class Played:
    """Every run takes what it returns, the clock reads what it is told."""

    def __init__(self, clocks: Iterator[float | None]) -> None:
        self.clocks, self.runs = clocks, 0

    def seconds(self, run: Callable[[], object]) -> float:
        self.runs += 1
        return float(str(run()))

    def clock_hz(self) -> float | None:
        return next(self.clocks)


def test_the_value_is_the_ratio_of_medians_in_units_of_the_reference() -> None:
    noise = chain.from_iterable(repeat([0.99, 1.0, 1.01, 5.0, 1.0]))
    events = Played(repeat(None))
    found = estimate_on_device(
        lambda: 3e-3 * next(noise), lambda: 2e-3, limits=LIMITS, long_run_s=1e-3, events=events
    )
    assert found.value_s == pytest.approx(1.5e-3, rel=1e-2)  # half of 3 ms: the reference is twice its usual
    assert RUNS[0] <= found.runs <= RUNS[1]
    assert found.warm_up_runs >= 10
    assert found.quantiles_s["25"] <= found.quantiles_s["50"] <= found.quantiles_s["75"]
    assert found.contention == 1.0
    assert is_calm(found, LIMITS)


@pytest.mark.parametrize(("last", "calm"), [(1.02e9, True), (0.9e9, False)])
def test_a_clock_that_drifts_asks_for_another_attempt(last: float, calm: bool) -> None:
    clocks = chain([1.0e9] * 12, repeat(last))
    found = estimate_on_device(lambda: 1e-3, lambda: 1e-3, limits=LIMITS, events=Played(clocks))
    assert is_calm(found, LIMITS) == calm


def test_runs_of_equal_length_end_at_the_fewest() -> None:
    found = estimate_on_device(lambda: 1e-3, lambda: 1e-3, limits=LIMITS, events=Played(repeat(None)))
    assert (found.runs, found.half_width) == (RUNS[0], 0.0)


@pytest.mark.parametrize(
    "target",
    [Target(device="cuda"), Target(device="cuda", runtime="torch-compile"), Target(runtime="cudagraph")],
)
def test_runtimes_of_the_other_device_are_refused(target: Target) -> None:
    with pytest.raises(InvalidInputError, match=r"does not run on target\.device="):
        check_target(target)


@without_cuda
def test_a_machine_without_a_device_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"choose target\.device=cpu"):
        check_target(Target(device="cuda", runtime="cudagraph"))
    with pytest.raises(UnsupportedError, match="sees no CUDA device"):
        DeviceEvents()
    with pytest.raises(UnsupportedError, match="sees no CUDA device"):
        graphed(lambda: None)


def test_only_runtimes_with_micro_kernels_are_calibrated(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="calibrating torch-compile on cpu"):
        calibrate(Target(runtime="torch-compile"), scratch=tmp_path)


def test_a_short_run_is_not_warmed_up_for_minutes() -> None:
    found = estimate_on_device(lambda: 1e-5, lambda: 1e-3, limits=LIMITS, events=Played(repeat(1.5e9)))
    assert found.warm_up_runs == WARM_UP_RUNS[1]
    assert found.clock_hz == 1.5e9


def test_a_clock_that_nobody_may_ask_for_is_none() -> None:
    class LibraryError(Exception):
        """As nvidia-ml-py raises where a part of a device is asked."""

    def refused() -> int:
        raise LibraryError

    assert clock_hz(refused) is None
    assert clock_hz(lambda: 1980) == 1.98e9


@pytest.mark.parametrize(
    "said",
    [
        "called a synchronizing CUDA operation",
        "CUDA error: operation not permitted when stream is capturing",
    ],
)
def test_a_model_that_waits_for_the_device_has_no_graph(said: str) -> None:
    problem = uncaptured(RuntimeError(said))
    assert isinstance(problem, UnsupportedError)
    assert "choose target.runtime=eager" in problem.message


@pytest.mark.parametrize(
    "problem",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), torch.OutOfMemoryError("while capturing")],
)
def test_other_errors_of_a_capture_stay_what_they_are(problem: RuntimeError) -> None:
    assert uncaptured(problem) is problem


class Counted:
    """An allocator with a library that keeps a workspace from its first call on."""

    def __init__(self) -> None:
        self.now = self.most = 1000

    def allocated(self) -> int:
        return self.now

    def reset_peak(self) -> None:
        self.most = self.now

    def peak(self) -> int:
        return self.most

    def take(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


def test_memory_is_what_placing_and_a_pass_add() -> None:
    memory, calls = Counted(), iter((512, 0))

    def run() -> None:
        memory.take(next(calls))  # the workspace stays
        memory.take(70)
        memory.take(-70)

    def place() -> Callable[[], None]:
        memory.take(400)
        return run

    assert allocated_bytes(place, memory) == {"session_bytes": 400, "run_bytes": 70}


@without_cuda
def test_memory_of_a_device_that_is_not_there(make: Factory, tmp_path: Path) -> None:
    target = Target(device="cuda", runtime="eager")
    with pytest.raises(UnsupportedError, match=r"choose target\.device=cpu"):
        measure_memory(build_model(make()), make(), target, scratch=tmp_path)


def test_a_block_says_which_kernels_ran(make: Factory, tmp_path: Path) -> None:
    target = Target(runtime="eager")
    blocks = [block for block in blocks_of(make(), target) if block.part != "embedding"][:1]
    (found,) = measure_blocks(blocks, target, limits=QUICK, scratch=tmp_path)
    assert set(found.detail["kernels"].values()) == {"no kernels on cpu"}


def waits(model: torch.nn.Module, run: Callable[[], object]) -> bool:
    """Whether something asks for a value, or mixes devices: tensors without values, and an error, say so."""
    try:
        run()
    except (NotImplementedError, RuntimeError):
        return True
    return False


@pytest.mark.parametrize("kind", [*MIXERS, *(kind for kind in FEED_FORWARDS if kind != "none")])
def test_passes_and_steps_never_wait_for_the_device(kind: str, small: Callable[[str], Architecture]) -> None:
    """A graph could not hold them. Decoding reads its position on the device too."""
    if kind in MIXERS and not MIXERS[kind].causal:
        pytest.skip("has no causal form")
    model = build_model(small(kind)).to("meta").eval()
    tokens = torch.zeros((2, 16), dtype=torch.int64, device="meta")
    with torch.no_grad():
        assert waits(model, lambda: model(tokens)) == (kind in WAITS)
        if kind in WAITS or (kind in MIXERS and not MIXERS[kind].decodable):
            return
        states = model.prefill(tokens[:, :8])[1]
        position = torch.zeros((), dtype=torch.int64, device="meta")
        assert not waits(model, lambda: model.step(tokens[:, 8], states, position))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("runtime", ["eager", "cudagraph"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("number_format", ["fp32", "bf16", "int8_dynamic"])
def test_a_latency_on_the_device(
    make: Factory, tmp_path: Path, runtime: Runtime, phase: Phase, number_format: str
) -> None:
    architecture = make(number_format=number_format)
    target = Target(device="cuda", runtime=runtime, phase=phase)
    found = measure_model(build_model(architecture), architecture, target, limits=QUICK, scratch=tmp_path)
    assert found.value is not None
    assert 1e-6 < found.value < 1.0
    assert "fused" in found.detail["kernels"].values()


@pytest.mark.gpu
@needs_cuda
def test_a_graph_computes_what_the_run_computes(make: Factory) -> None:
    model = build_model(make()).eval().to("cuda")
    tokens = torch.arange(16, device="cuda")[None]
    with torch.inference_mode():
        expected = model(tokens)
        replay = graphed(lambda: model(tokens))
        for _ in range(2):
            torch.testing.assert_close(replay(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@needs_cuda
def test_a_run_that_waits_is_refused_and_the_device_goes_on() -> None:
    x = torch.ones(4, device="cuda")
    with pytest.raises(UnsupportedError, match="waits for the device"):
        graphed(lambda: bool(x.any()))
    assert graphed(lambda: x + 1)() is not None


@pytest.mark.gpu
@needs_cuda
def test_memory_on_the_device_grows_with_the_length(make: Factory, tmp_path: Path) -> None:
    target = Target(device="cuda", runtime="eager")
    short, long = (make(num_layers=1, tokens=tokens) for tokens in (256, 512))
    found = [measure_memory(build_model(one), one, target, scratch=tmp_path) for one in (short, long)]
    assert found[0].detail["session_bytes"] >= found[0].detail["computed"]["weights_bytes"]
    assert found[0].detail["run_bytes"] < found[1].detail["run_bytes"]
