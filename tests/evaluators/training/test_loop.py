import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluators.training import (
    TaskData,
    TrainingPlan,
    TrainingResult,
    evaluate,
    load_weights,
    loop,
    module_predictor,
    train,
    training_fingerprint,
)
from evaluators.training.checkpoints import load_checkpoint
from space.architecture import Architecture
from space.errors import EvaluationError
from space.model import build_model

PLAN = TrainingPlan(steps=24, batch_size=8)


def _same_bits(one: TrainingResult, other: TrainingResult) -> None:
    assert one.checkpoint is not None
    assert other.checkpoint is not None
    first, second = load_checkpoint(one.checkpoint), load_checkpoint(other.checkpoint)
    assert first is not None
    assert second is not None
    for name in ("weights", "optimizer"):
        tensors, others = getattr(first, name), getattr(second, name)
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[key], others[key]) for key in tensors)
    assert (one.metrics, one.train_curve) == (other.metrics, other.train_curve)


def test_training_learns(text_data: TaskData, text_architecture: Architecture) -> None:
    plan = replace(PLAN, steps=60, learning_rate=0.01)
    result = train(text_architecture, text_data, plan, seed=0, until=60, folder=None)
    assert result.step == 60
    assert 0 < result.metrics["bits_per_byte"] < text_data.source["floors"]["order1"]
    assert result.metrics.keys() == result.standard_error.keys() == {"loss", "bits_per_byte"}
    assert result.train_curve[0][1] > result.train_curve[-1][1]
    assert result.checkpoint is None


def test_images_are_learned_too(digits_data: TaskData, image_architecture: Architecture) -> None:
    plan = TrainingPlan(steps=60, batch_size=64, learning_rate=0.01)
    result = train(image_architecture, digits_data, plan, seed=0, until=60, folder=None)
    assert result.metrics["error"] < 0.8 * digits_data.source["majority_error"]


@pytest.mark.parametrize("stop", [1, 7, 12])
def test_f56_a_resumed_training_ends_in_the_same_bits(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, stop: int
) -> None:
    whole = train(text_architecture, text_data, PLAN, seed=1, until=18, folder=tmp_path / "whole")
    asked = iter(range(1000))
    stopped = train(
        text_architecture,
        text_data,
        PLAN,
        seed=1,
        until=18,
        folder=tmp_path / "parts",
        should_stop=lambda: next(asked) == stop,
    )
    assert (stopped.stopped, stopped.step, stopped.metrics) == (True, stop, {})
    resumed = train(text_architecture, text_data, PLAN, seed=1, until=18, folder=tmp_path / "parts")
    _same_bits(whole, resumed)


def test_rungs_continue_one_training(
    tmp_path: Path, digits_data: TaskData, image_architecture: Architecture
) -> None:
    whole = train(image_architecture, digits_data, PLAN, seed=1, until=24, folder=tmp_path / "whole")
    for until in (6, 12, 24):
        rung = train(image_architecture, digits_data, PLAN, seed=1, until=until, folder=tmp_path / "rungs")
    _same_bits(whole, rung)
    assert rung.checkpoint is not None
    assert sorted(int(path.name) for path in rung.checkpoint.parent.iterdir()) == [6, 12, 24]


def test_a_finished_rung_is_only_evaluated_again(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture
) -> None:
    one = train(text_architecture, text_data, PLAN, seed=1, until=6, folder=tmp_path)
    guarded = []

    @contextmanager
    def guard() -> Iterator[None]:
        guarded.append(1)
        yield

    again = train(text_architecture, text_data, PLAN, seed=1, until=6, folder=tmp_path, step_guard=guard)
    _same_bits(one, again)
    assert len(guarded) == -(-len(text_data.validation) // 32)


def test_steps_and_evaluation_batches_run_inside_the_guard(
    text_data: TaskData, text_architecture: Architecture
) -> None:
    inside: list[bool] = []
    guarded = 0

    @contextmanager
    def guard() -> Iterator[None]:
        nonlocal guarded
        guarded += 1
        inside.append(True)
        yield
        inside.pop()

    def should_stop() -> bool:
        assert not inside
        return False

    train(
        text_architecture,
        text_data,
        PLAN,
        seed=0,
        until=5,
        folder=None,
        step_guard=guard,
        should_stop=should_stop,
    )
    assert guarded == 5 + -(-len(text_data.validation) // 32)


def test_number_formats_share_one_training(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, int8_text_architecture: Architecture
) -> None:
    plain = train(text_architecture, text_data, PLAN, seed=1, until=6, folder=tmp_path)
    low = train(int8_text_architecture, text_data, PLAN, seed=1, until=6, folder=tmp_path)
    assert text_architecture.id != int8_text_architecture.id
    assert (plain.checkpoint, plain.metrics) == (low.checkpoint, low.metrics)


def test_seeds_differ_in_weights_and_order(text_data: TaskData, text_architecture: Architecture) -> None:
    losses = [
        train(text_architecture, text_data, PLAN, seed=seed, until=2, folder=None).metrics["loss"]
        for seed in (0, 1, 0)
    ]
    assert losses[0] == losses[2] != losses[1]


def test_a_checkpoint_gives_the_metrics_it_was_stored_with(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture
) -> None:
    result = train(text_architecture, text_data, PLAN, seed=1, until=6, folder=tmp_path)
    assert result.checkpoint is not None
    key = training_fingerprint(text_data, PLAN)
    assert result.checkpoint == tmp_path / text_architecture.training_id / key / "1" / "6"
    model = build_model(text_architecture, seed=99)
    load_weights(model, result.checkpoint)
    assert evaluate(module_predictor(model), text_data, "validation").values == result.metrics


def test_divergence_is_named_with_its_step(text_data: TaskData, text_architecture: Architecture) -> None:
    plan = replace(PLAN, learning_rate=1e30)
    with pytest.raises(EvaluationError, match=r"diverged (at|by) step \d+") as caught:
        train(text_architecture, text_data, plan, seed=0, until=24, folder=None)
    assert caught.value.reason == "diverged"


def test_a_training_that_stays_far_above_guessing_is_stopped(
    text_data: TaskData, text_architecture: Architecture
) -> None:
    """Finite all along; with this rate it comes to twice the loss of guessing and does not come back."""
    plan = replace(PLAN, steps=200, learning_rate=3.0, clip=1e9)
    with pytest.raises(EvaluationError, match=r"more than .* 2 times that of guessing") as caught:
        train(text_architecture, text_data, plan, seed=0, until=200, folder=None)
    assert caught.value.reason == "diverged"


def test_validation_is_watched_without_changing_the_training(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture
) -> None:
    plain = train(text_architecture, text_data, PLAN, seed=1, until=24, folder=tmp_path / "plain")
    whole = train(text_architecture, text_data, PLAN, seed=1, until=24, folder=tmp_path / "whole", watched=6)
    for until in (6, 24):
        parts = train(
            text_architecture, text_data, PLAN, seed=1, until=until, folder=tmp_path / "parts", watched=6
        )
    assert plain.validation_curve == ()
    assert whole.validation_curve == parts.validation_curve
    assert (whole.metrics, whole.train_curve) == (plain.metrics, plain.train_curve)
    assert [step for step, _ in whole.validation_curve] == sorted(loop.watched_steps(24, 6))
    assert whole.validation_curve[-1][1] == pytest.approx(whole.metrics["loss"], rel=0.1)


def test_a_training_ends_within_its_plan(text_data: TaskData, text_architecture: Architecture) -> None:
    with pytest.raises(ValueError, match="until=25 must be from 1 to the plan's 24 steps"):
        train(text_architecture, text_data, PLAN, seed=0, until=25, folder=None)


def test_progress_is_told_with_the_curve(text_data: TaskData, text_architecture: Architecture) -> None:
    told: list[tuple[int, float]] = []
    result = train(
        text_architecture,
        text_data,
        PLAN,
        seed=0,
        until=3,
        folder=None,
        on_progress=lambda step, loss: told.append((step, loss)),
    )
    assert tuple(told) == result.train_curve
    assert [step for step, _ in told] == [1, 2, 3]


def test_long_trainings_leave_checkpoints_on_the_way(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    seen: set[str] = set()

    def should_stop() -> bool:
        seen.update(path.parent.name for path in tmp_path.glob("*/*/*/*/state.json"))
        return False

    result = train(
        text_architecture, text_data, PLAN, seed=0, until=5, folder=tmp_path, should_stop=should_stop
    )
    assert seen == {"1", "2", "3", "4"}
    assert result.checkpoint is not None
    assert [path.name for path in result.checkpoint.parent.iterdir()] == ["5"]


_KILLED = """
import sys
from pathlib import Path
import torch
from evaluators.training import TrainingPlan, loop, prepare_task, train
from space.architecture import parse_architecture
torch.set_num_threads(1)
loop.CHECKPOINT_EVERY_S = 0.0
plan = TrainingPlan(steps=100000, batch_size=8)
data = prepare_task("image", "digits")
train(parse_architecture(sys.argv[1]), data, plan, seed=4, until=100000, folder=Path(sys.argv[2]))
"""


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in folder.glob("*/*/4/[0-9]*/state.json"))


@pytest.mark.slow
def test_a_killed_training_goes_on_from_an_intact_checkpoint(
    tmp_path: Path, digits_data: TaskData, image_architecture: Architecture
) -> None:
    script, kept = tmp_path / "killed.py", tmp_path / "kept"
    script.write_text(_KILLED)
    command = [sys.executable, str(script), image_architecture.canonical_json, str(kept)]
    reached = 0
    for _ in range(2):
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
        try:
            while max(_steps(kept), default=0) <= reached and process.poll() is None:
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        assert max(_steps(kept)) > reached
        reached = max(_steps(kept))
    plan, until = TrainingPlan(steps=100000, batch_size=8), reached + 1
    resumed = train(image_architecture, digits_data, plan, seed=4, until=until, folder=kept)
    whole = train(image_architecture, digits_data, plan, seed=4, until=until, folder=tmp_path / "whole")
    _same_bits(whole, resumed)
    assert _steps(kept) == [until]
