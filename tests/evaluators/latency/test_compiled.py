"""Compiled torch: what a fresh process compiles, times, and refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.latency import EstimatorLimits, Target, blocks_of, check_target, measure_blocks, measure_model
from evaluators.latency.estimator import Estimate, flags_of
from evaluators.latency.runtimes import Failure, Subject, compiled_process
from space.architecture import Architecture
from space.errors import InvalidInputError, UnsupportedError
from space.model import build_model

Factory = Callable[..., Architecture]

COMPILED = Target(runtime="torch-compile")
QUICK = EstimatorLimits(max_seconds=0.2, max_runs=40, noisy_half_width=10.0, attempts=1, rounds=2)


@pytest.mark.slow
def test_a_process_compiles_times_and_says_what_it_cannot(make: Factory, tmp_path: Path) -> None:
    """An empty block has no kernels, so that only the process and the tracer are at work."""
    empty = blocks_of(make(num_layers=1), COMPILED)[0].emptied()
    looking = blocks_of(make(num_layers=1, number_format="int8_mixed"), COMPILED)[1]
    with compiled_process(threads=1, cache=tmp_path) as process:
        compile_s = process.compile("empty", Subject(empty.host.canonical_json, 1, empty.tokens, "empty"))
        assert isinstance(compile_s, float)
        assert compile_s > 0
        timed = process.time("empty", "empty", QUICK, None)
        assert isinstance(timed, Estimate)
        assert 0 < timed.value_s < 0.1
        broken = process.compile("mixer", Subject(looking.host.canonical_json, 1, looking.tokens, "mixer"))
        assert isinstance(broken, float)  # in pieces
        pieces = process.time("mixer", "empty", QUICK, None)
        assert isinstance(pieces, Estimate)
        assert "ata-dependent" in pieces.graph_break
        assert timed.graph_break == ""
        assert flags_of(pieces, QUICK) - flags_of(replace(pieces, graph_break=""), QUICK) == {"graph_break"}
        nothing = process.compile("nothing", Subject(empty.host.canonical_json, 1, empty.tokens, "no part"))
        assert isinstance(nothing, Failure)
        assert nothing.reason == "unsupported_operator"
        assert "torch.compile: " in nothing.message
        unknown = process.time("nobody", "empty", QUICK, None)
        assert isinstance(unknown, Failure)
        assert unknown.reason == "internal"
        again = process.time("empty", "empty", QUICK, 1e-6)
        assert isinstance(again, Estimate)  # one failure does not end the process


def test_a_process_that_dies_or_is_late_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject("{}", 1, 16, "empty")
    with compiled_process(threads=1, cache=tmp_path) as process:
        process.process.kill()
        dead = process.compile("any", subject)
    assert isinstance(dead, Failure)
    assert dead.reason == "out_of_memory"  # a killed process is taken for one that the kernel killed
    monkeypatch.setattr("evaluators.latency.runtimes.compiled.COMPILING_S", 0.01)
    with compiled_process(threads=1, cache=tmp_path) as process:
        late = process.compile("any", subject)
    assert isinstance(late, Failure)
    assert late.reason == "timeout"


def test_formats_that_are_not_compiled_and_decode_are_refused(make: Factory, tmp_path: Path) -> None:
    mixed = make(number_format="int8_mixed")
    with pytest.raises(UnsupportedError, match="simulated on torch-compile"):
        measure_model(build_model(mixed), mixed, COMPILED, limits=QUICK, scratch=tmp_path)
    with pytest.raises(InvalidInputError, match="does not run on torch-compile"):
        check_target(Target(runtime="torch-compile", phase="decode"))


@pytest.mark.soak
@pytest.mark.parametrize("number_format", ["fp32", "int8_dynamic"])
def test_a_model_and_its_blocks_are_compiled_and_measured(
    number_format: str, make: Factory, tmp_path: Path
) -> None:
    architecture = make(number_format=number_format)
    whole = measure_model(build_model(architecture), architecture, COMPILED, limits=QUICK, scratch=tmp_path)
    assert whole.value is not None
    assert 1e-6 < whole.value < 0.1
    assert whole.detail["compile_s"] > 0
    assert len(whole.detail["rounds_s"]) == 2
    found = measure_blocks(blocks_of(architecture, COMPILED), COMPILED, limits=QUICK, scratch=tmp_path)
    assert [block.status for block in found] == ["ok"] * 6
