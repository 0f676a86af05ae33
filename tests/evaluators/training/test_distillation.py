from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from evaluators.training import TaskData, TrainingPlan, train, training_fingerprint
from evaluators.training.distillation import Distiller, Teacher, build_teacher, distillation_loss
from space.architecture import Architecture
from space.errors import InvalidInputError
from space.model import build_model

PLAN = TrainingPlan(steps=12, batch_size=8)


@pytest.fixture(scope="module")
def teacher(
    text_data: TaskData, text_architecture: Architecture, tmp_path_factory: pytest.TempPathFactory
) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    plan = replace(PLAN, steps=40, learning_rate=0.01)
    trained = train(text_architecture, text_data, plan, seed=9, until=40, folder=folder)
    assert trained.checkpoint is not None
    return Teacher(text_architecture, trained.checkpoint)


def _taught(teacher: Teacher, weight: float = 0.5) -> TrainingPlan:
    return replace(PLAN, teacher=str(teacher.checkpoint), distillation=weight)


def test_the_loss_is_the_divergence_by_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    targets = torch.tensor([[1, -100, 2], [-100, -100, 0]])
    rows = []
    for b, t in ((0, 0), (0, 2), (1, 2)):
        p, q = (torch.softmax(logits[b, t] / 3.0, -1) for logits in (teacher, student))
        rows.append((p * (p.log() - q.log())).sum())
    slow = 9.0 * torch.stack(rows).mean()
    fast = distillation_loss(student, teacher, targets, temperature=3.0)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (fast, slow)))


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it(
    text_data: TaskData, text_architecture: Architecture
) -> None:
    model, same = (build_model(text_architecture, seed=1) for _ in "ab")
    distiller = Distiller(same, model, weight=1.0, temperature=2.0)
    inputs, targets = (torch.from_numpy(a) for a in text_data.examples("validation", torch.arange(4).numpy()))
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    assert distiller(loss, targets).item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_changes_the_training_and_is_a_condition_of_its_key(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, teacher: Teacher
) -> None:
    alone = train(text_architecture, text_data, PLAN, seed=1, until=12, folder=tmp_path)
    taught = train(
        text_architecture, text_data, _taught(teacher), seed=1, until=12, folder=tmp_path, teacher=teacher
    )
    assert alone.checkpoint != taught.checkpoint
    assert taught.metrics["loss"] < alone.metrics["loss"]  # a trained teacher, twelve steps


def test_a_resumed_distillation_ends_in_the_same_bits(
    tmp_path: Path, text_data: TaskData, text_architecture: Architecture, teacher: Teacher
) -> None:
    def run(folder: str, stop: int | None = None) -> tuple[object, object]:
        asked = iter(range(1000))
        result = train(
            text_architecture, text_data, _taught(teacher), seed=1, until=12, folder=tmp_path / folder,
            should_stop=lambda: next(asked) == stop, teacher=teacher,
        )  # fmt: skip
        return result.metrics, result.train_curve

    whole = run("whole")
    run("parts", stop=5)
    assert run("parts") == whole


def test_the_teacher_stays_as_it_was(
    text_data: TaskData, teacher: Teacher, text_architecture: Architecture
) -> None:
    before = build_teacher(teacher, text_architecture).state_dict()
    train(text_architecture, text_data, _taught(teacher), seed=1, until=2, folder=None, teacher=teacher)
    after = build_teacher(teacher, text_architecture).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_teacher_of_another_task_is_refused(
    text_architecture: Architecture, image_architecture: Architecture, teacher: Teacher
) -> None:
    with pytest.raises(InvalidInputError, match="choose a teacher of the same task"):
        build_teacher(teacher, image_architecture)


def test_plan_and_call_name_the_same_teacher(text_data: TaskData, teacher: Teacher) -> None:
    with pytest.raises(ValueError, match="give both or none"):
        train(teacher.architecture, text_data, PLAN, seed=0, until=2, folder=None, teacher=teacher)


def test_keys_from_before_there_were_teachers_are_the_same(text_data: TaskData) -> None:
    key = training_fingerprint(text_data, PLAN)
    assert key == training_fingerprint(text_data, replace(PLAN, temperature=7.0, distillation=0.1))
    assert key != training_fingerprint(text_data, replace(PLAN, teacher="a"))
