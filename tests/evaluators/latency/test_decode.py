"""Decode: one more token with the real state, of models and of blocks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluators.latency import (
    EstimatorLimits,
    Target,
    blocks_of,
    check_target,
    latency_fingerprint,
    measure_blocks,
    measure_model,
)
from evaluators.latency.estimator import Estimate
from evaluators.latency.measure import write_steps
from evaluators.latency.runtimes import eager
from evaluators.latency.runtimes.ort_process import session, stepped
from evaluators.latency.timed_input import random_input, timed_input
from space.architecture import Architecture
from space.errors import InvalidInputError, UnsupportedError
from space.export import export_step
from space.model import build_model

Factory = Callable[..., Architecture]
DECODE = Target(runtime="eager", phase="decode")
QUICK = EstimatorLimits(max_seconds=0.1, max_runs=16, noisy_half_width=10.0, attempts=1, rounds=1)
MIXERS = (
    {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
    {"kind": "linear_elu", "num_heads": 4},
    {"kind": "gated_conv", "width": 4},
)


@pytest.mark.parametrize("tokens", [1, 40])
def test_a_run_is_the_last_steps_and_gives_the_logits_of_a_whole_pass(make: Factory, tokens: int) -> None:
    architecture = make(tokens=40)
    model = build_model(architecture, seed=0)
    x = random_input(timed_input(architecture, 2, tokens))
    run, steps = eager.decode_call(model, x)
    assert steps == min(tokens, eager.DECODE_STEPS)
    with torch.inference_mode():
        expected = model(x)[:, -1]
        for _ in range(2):  # every run begins with the same state
            logits = run()
            assert isinstance(logits, torch.Tensor)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixer", MIXERS, ids=[str(mixer["kind"]) for mixer in MIXERS])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_blocks_one_after_the_other_are_a_step_of_the_model(
    make: Factory, mixer: dict[str, object], placement: str
) -> None:
    """On the first token, where no block has a past of its own to be fed."""
    architecture = make(num_layers=1, mixer=mixer, placement=placement, tokens=16)
    target = Target(runtime="eager", phase="decode", length=1)
    model = build_model(architecture, seed=0)
    parts = [block.build() for block in blocks_of(architecture, target)]
    for part, own in zip(parts, blocks_of(architecture, target), strict=True):
        assert own.input.shape[:2] == (1, 1)
        _fill_weights(model, part)
    x = random_input(timed_input(architecture, 1, 1))
    with torch.inference_mode():
        y = x
        for part in parts:
            y = part(y)
        expected, _ = model.step(x[:, 0], model.init_state(1), torch.tensor(0))
    torch.testing.assert_close(y[:, 0], expected, rtol=1e-4, atol=1e-5)


def _fill_weights(model: nn.Module, part: nn.Module) -> None:
    """The same in both: every weight is 0.02."""
    for module in (model, part):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(0.02)


@pytest.mark.slow
def test_models_and_blocks_are_measured(make: Factory, tmp_path: Path) -> None:
    architecture = make(num_layers=1, tokens=16)
    whole = measure_model(build_model(architecture), architecture, DECODE, limits=QUICK, scratch=tmp_path)
    assert whole.value is not None
    assert whole.value > 0
    assert whole.detail["conditions"]["phase"] == "decode"
    blocks = blocks_of(architecture, DECODE)[:2]
    measured = measure_blocks(blocks, DECODE, limits=QUICK, scratch=tmp_path)
    assert [one.status for one in measured] == ["ok"] * len(blocks)


def test_decode_has_numbers_of_its_own(make: Factory) -> None:
    prefill = Target(runtime="eager")
    assert latency_fingerprint(DECODE) != latency_fingerprint(prefill)
    ids = [{block.id for block in blocks_of(make(), target)} for target in (DECODE, prefill)]
    assert not ids[0] & ids[1]


def test_what_cannot_decode_is_refused(make: Factory, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"choose target\.runtime=onnxruntime or eager"):
        check_target(Target(runtime="torch-compile", phase="decode"))
    encoder = make("encoder")
    with pytest.raises(UnsupportedError, match="not causal"):
        measure_model(build_model(encoder), encoder, DECODE, limits=QUICK, scratch=tmp_path)


def test_an_estimate_of_equal_parts_is_divided() -> None:
    whole = Estimate(
        value_s=32.0, p50_s=64.0, p95_s=96.0, half_width=0.01, contention=1.0, scale=1.0,
        quantiles_s={"10": 32.0}, reference_p10_s=1.0, cpu_p50_s=32.0, runs=9, warm_up_runs=5, seconds=3.0,
    )  # fmt: skip
    one = whole.per(32)
    assert (one.value_s, one.p50_s, one.p95_s, one.cpu_p50_s) == (1.0, 2.0, 3.0, 1.0)
    assert one.quantiles_s == {"10": 1.0}
    assert (one.half_width, one.reference_p10_s) == (0.01, 1.0)


@pytest.mark.parametrize("mixer", MIXERS, ids=[str(mixer["kind"]) for mixer in MIXERS])
def test_a_file_is_timed_step_by_step_with_its_state(
    make: Factory, mixer: dict[str, object], tmp_path: Path
) -> None:
    """What is timed ends with the logits that a whole pass ends with."""
    architecture = make(num_layers=1, tokens=40, mixer=mixer)
    target = Target(phase="decode", batch_size=2)
    model = build_model(architecture, seed=0)
    steps = write_steps(model, architecture, target, tmp_path / "steps.npz")
    path = export_step(model, architecture, tmp_path / "step.onnx")
    logits = stepped(session(str(path), (2,), threads=1), str(steps))()
    with torch.inference_mode():
        expected = model(random_input(timed_input(architecture, 2, 40)))[:, -1]
    torch.testing.assert_close(torch.from_numpy(logits.numpy()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_files_and_their_blocks_are_measured_in_decode(make: Factory, tmp_path: Path) -> None:
    architecture, target = make(num_layers=1, tokens=40), Target(phase="decode")
    whole = measure_model(build_model(architecture), architecture, target, limits=QUICK, scratch=tmp_path)
    assert whole.value is not None
    assert 0 < whole.value < 0.1
    measured = measure_blocks(blocks_of(architecture, target), target, limits=QUICK, scratch=tmp_path)
    assert [one.status for one in measured] == ["ok"] * 4
