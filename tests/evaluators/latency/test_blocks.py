"""Blocks: which there are, that equal work has equal ids, and that they are measured and add up."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import onnx
import pytest

from evaluators.latency import EstimatorLimits, Target, block_timing, blocks_of, measure_blocks, measure_model
from evaluators.latency.blocks import export_block
from evaluators.latency.estimator import Estimate
from evaluators.latency.prediction import composition
from space.architecture import Architecture
from space.export import export_onnx
from space.model import build_model

Factory = Callable[..., Architecture]

QUICK = EstimatorLimits(max_seconds=0.1, max_runs=24, noisy_half_width=10.0, attempts=1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def ids(architecture: Architecture, target: Target | None = None) -> list[str]:
    return [block.id for block in blocks_of(architecture, target or Target())]


@pytest.mark.parametrize("is_quiet", [True, False])
def test_a_block_timed_beside_a_training_says_so(
    is_quiet: bool, make: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However sure its own clocks are; nor does the reference's history learn from such a visit."""
    monkeypatch.setattr(block_timing, "quiet_host", lambda timeout_s: nullcontext(is_quiet))
    (embedding, *_) = blocks_of(make(num_layers=1), Target(runtime="eager"))
    calm = Estimate(
        value_s=1e-3, p50_s=1e-3, p95_s=1e-3, half_width=0.01, contention=1.0, scale=1.0, quantiles_s={},
        reference_p10_s=2e-3, cpu_p50_s=1e-3, runs=64, warm_up_runs=6, seconds=0.1,
    )  # fmt: skip

    def timer(*_: object) -> AbstractContextManager[object]:
        return nullcontext(lambda blocks, long_run: [calm] * len(blocks))

    monkeypatch.setitem(block_timing.TIMERS, "eager", timer)
    (found,) = measure_blocks([embedding], Target(runtime="eager"), limits=QUICK, scratch=tmp_path)
    assert ("contended" in found.flags) != is_quiet
    assert bool(list(tmp_path.glob("reference-*.json"))) == is_quiet


def test_a_model_is_embedding_two_parts_per_layer_and_head(make: Factory) -> None:
    parts = [block.part for block in blocks_of(make(num_layers=3), Target())]
    assert parts == ["embedding", *["mixer", "feed_forward"] * 3, "head"]


def test_equal_layers_share_their_blocks_within_and_across_architectures(make: Factory) -> None:
    small, deep = make(num_layers=2), make(num_layers=6)
    assert set(ids(small)) == set(ids(deep))
    assert len(set(ids(deep))) == 5  # embedding, two mixers, one feed-forward, head


def test_what_changes_the_time_changes_the_id(make: Factory) -> None:
    base = set(ids(make()))
    assert not base & set(ids(make(), Target(batch_size=2)))
    assert not base & set(ids(make(), Target(length=8)))
    assert not base & set(ids(make(d_model=64)))
    others = ids(make(number_format="int8_dynamic"))
    assert [a == b for a, b in zip(ids(make()), others, strict=True)] == [True, *[False] * 4, True]


def test_what_does_not_change_the_time_does_not_change_the_id(make: Factory) -> None:
    assert ids(make()) == ids(make(residual="parallel")) == ids(make(placement="post"))


def test_a_position_counts_only_where_it_is_read(make: Factory) -> None:
    data = make().model_dump()
    data["layers"][1]["mixer"] = {"kind": "pool", "width": 3}
    rope, none = (
        Architecture.model_validate({**data, "position": {"kind": kind}}) for kind in ("rope", "none")
    )
    same = [a == b for a, b in zip(ids(rope), ids(none), strict=True)]
    assert same == [True, False, True, True, True, True]  # the softmax mixer reads it, pooling does not


@pytest.mark.parametrize("model", ["decoder", "encoder", "vision"])
def test_a_blocks_file_leaves_the_length_free_exactly_where_the_models_file_does(
    model: str, make: Factory, tmp_path: Path
) -> None:
    """Shape arithmetic that a session cannot fold away must be in both or in neither."""
    architecture = make(model)
    export_onnx(build_model(architecture, seed=0), architecture, tmp_path / "model.onnx")
    for index, block in enumerate(blocks_of(architecture, Target())):
        export_block(block, tmp_path / f"{index}.onnx")
    free = {path.stem: "length" in free_axes(path) for path in sorted(tmp_path.glob("*.onnx"))}
    assert set(free.values()) == {model != "vision"}, free


def free_axes(path: Path) -> set[str]:
    (given,) = onnx.load(path).graph.input
    return {axis.dim_param for axis in given.type.tensor_type.shape.dim if axis.dim_param}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["decoder", "encoder", "vision"])
def test_every_block_is_measured(model: str, make: Factory, scratch: Path) -> None:
    blocks = blocks_of(make(model), Target())
    measured = measure_blocks(blocks, Target(), limits=QUICK, scratch=scratch)
    assert [m.status for m in measured] == ["ok"] * len(blocks)
    assert all(m.value is not None and m.value > 0 and m.kind == "measured" for m in measured)
    assert measured[0].detail["empty_call_s"] == 0
    assert measured[1].detail["empty_call_s"] > 0


@pytest.mark.slow
def test_blocks_of_both_formats_and_runtimes_are_measured(make: Factory, scratch: Path) -> None:
    blocks = blocks_of(make(number_format="int8_dynamic"), Target())[1:3]
    for target in (Target(), Target(runtime="eager")):
        measured = measure_blocks(blocks, target, limits=QUICK, scratch=scratch)
        assert [m.status for m in measured] == ["ok", "ok"]


def test_a_block_without_a_form_on_the_runtime_says_so_and_the_others_are_measured(
    make: Factory, scratch: Path
) -> None:
    blocks = [*blocks_of(make(number_format="bf16"), Target())[:2]]
    first, second = measure_blocks(blocks, Target(), limits=QUICK, scratch=scratch)
    assert first.status == "ok"
    assert second.status == "unsupported"
    assert "bf16" in second.detail["message"]


def test_no_blocks_cost_nothing(scratch: Path) -> None:
    assert measure_blocks([], Target(), scratch=scratch) == []


@pytest.mark.slow
def test_measured_blocks_add_up_to_about_the_whole(make: Factory, scratch: Path) -> None:
    """Within a factor of 1.5: caches differ across blocks, and the host may be busy.

    Large enough that arithmetic outweighs the 700 small operators of the file: at 64 tokens of width 64 the
    same operators take 1.4 times as long one after the other as block by block.
    """
    architecture = make(num_layers=4, d_model=128, tokens=128)
    target = Target()
    blocks = {block.id: block for block in blocks_of(architecture, target)}
    parts = measure_blocks(list(blocks.values()), target, scratch=scratch)
    known = {id: m.value for id, m in zip(blocks, parts, strict=True) if m.value is not None}
    limits = EstimatorLimits(max_seconds=2.0, attempts=2)
    whole = measure_model(build_model(architecture), architecture, target, limits=limits, scratch=scratch)
    if whole.flags or any(m.flags for m in parts):
        pytest.skip("the host is busy")
    assert whole.value is not None
    assert abs(math.log(composition(architecture, target, known).total_s / whole.value)) < math.log(1.5)
