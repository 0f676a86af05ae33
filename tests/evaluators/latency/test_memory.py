"""Measured memory: at least what the arithmetic needs, growing with the length."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.latency import Target, measure_memory
from space.architecture import Architecture
from space.errors import UnsupportedError
from space.model import build_model

Factory = Callable[..., Architecture]


@pytest.mark.slow
def test_a_run_takes_at_least_its_live_activations_and_grows_with_the_length(
    make: Factory, tmp_path: Path
) -> None:
    short, long = (make(num_layers=1, tokens=tokens) for tokens in (256, 512))
    found = [measure_memory(build_model(one), one, Target(), scratch=tmp_path) for one in (short, long)]
    for one in found:
        assert one.kind == "measured"
        assert one.value == one.detail["session_bytes"] + one.detail["run_bytes"]
        assert one.detail["file_bytes"] >= one.detail["computed"]["weights_bytes"]
    grown = found[1].detail["run_bytes"] - found[0].detail["run_bytes"]
    counted = [one.detail["computed"]["activation_bytes"] for one in found]
    assert grown > 0.8 * (counted[1] - counted[0])


def test_a_process_that_everything_shares_is_not_measured(make: Factory, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="choose onnxruntime"):
        measure_memory(build_model(make()), make(), Target(runtime="eager"), scratch=tmp_path)
