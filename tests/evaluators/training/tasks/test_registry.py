import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest

from evaluators.training import Task, TaskData, TaskKind, prepare_task, recipe_of
from evaluators.training.tasks import TASKS, own_tasks, registry
from evaluators.training.tasks.digits import Digits
from space.errors import InvalidInputError

EXAMPLE = Path(__file__).parents[4] / "examples" / "own_task"
NAME = "paretoformer-delayed-copy:delayed_copy"
PROGRAM = """
import json, random, tempfile, torch
from pathlib import Path
from evaluators.training import TrainingPlan, prepare_task, recipe_of, train
from search.job import load_job
from search.plan import job_context, plan_job
from space.sampling import sample

torch.set_num_threads(1)
spec = load_job(Path(EXAMPLE) / "job.yaml", ["task.length=16"])
plan = plan_job(spec)
data, context = plan.data, job_context(plan)
architecture = plan.references[0].architecture
short = TrainingPlan(steps=12, batch_size=16, learning_rate=0.01)
folder = Path(tempfile.mkdtemp())
whole = train(architecture, data, short, seed=0, until=12, folder=folder / "whole")
asked, cut = iter(range(100)), folder / "parts"
train(architecture, data, short, seed=0, until=12, folder=cut, should_stop=lambda: next(asked) == 5)
parts = train(architecture, data, short, seed=0, until=12, folder=cut)
batches = recipe_of(data).batches(data, seed=0, batch_size=4)
print(json.dumps({
    "recipe": [context["task"]["recipe"], context["task"]["recipe_version"]],
    "own": type(recipe_of(data)).__name__,
    "model": data.model,
    "fresh": bool((batches(0)[0] != batches(1)[0]).any()),
    "same": bool((batches(1)[0] == recipe_of(data).batches(data, seed=0, batch_size=4)(1)[0]).all()),
    "resumed": (whole.metrics, whole.train_curve) == (parts.metrics, parts.train_curve),
    "learns": whole.train_curve[-1][1] < whole.train_curve[0][1],
}))
"""


@pytest.mark.slow
def test_a_task_of_another_package_trains_and_is_listed(tmp_path: Path) -> None:
    info = tmp_path / "paretoformer_delayed_copy-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paretoformer-delayed-copy\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[paretoformer.tasks]\ndelayed_copy = delayed_copy:DelayedCopy\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(EXAMPLE)])}

    def run(*command: str) -> str:
        done = subprocess.run(list(command), env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = json.loads(run(sys.executable, "-c", f"EXAMPLE = {str(EXAMPLE)!r}\n{PROGRAM}").splitlines()[-1])
    assert found == {
        "recipe": [NAME, 1], "own": "DelayedCopy", "model": "decoder", "fresh": True, "same": True,
        "resumed": True, "learns": True,
    }  # fmt: skip
    program = str(Path(sys.executable).with_name("paretoformer"))
    listed = {one["name"]: one for one in json.loads(run(program, "task", "list", "--json"))["tasks"]}
    assert listed[NAME]["summary"] == "the token five places before"


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("listops", "listops-mini")])
def test_a_built_in_task_has_the_name_and_the_kind_of_its_data(name: str) -> None:
    data = prepare_task(TASKS[name].kind, name)
    assert (data.name, data.kind, data.recipe) == (name, TASKS[name].kind, "")
    assert type(recipe_of(data)).__name__ == "Recipe"


class _NoFacts(Task):
    kind: ClassVar[TaskKind] = "image"
    summary: ClassVar[str] = "no source, no data"


class _OtherKind(Digits):
    kind: ClassVar[TaskKind] = "sequence"


class _Versioned(Digits):
    version: ClassVar[int] = 2


def _installed(monkeypatch: pytest.MonkeyPatch, target: Any) -> None:
    class Point(EntryPoint):
        def load(self) -> Any:
            if isinstance(target, Exception):
                raise target
            return target

    point = Point("mine", "somewhere:Mine", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    own_tasks.cache_clear()


@pytest.fixture(autouse=True)
def _only_what_is_installed() -> Any:
    yield
    own_tasks.cache_clear()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (dict, "must be a subclass of evaluators.training.Task"),
        (_NoFacts, "does not say prepare, source; write each in the class"),
        (ValueError("broken"), "cannot be loaded: ValueError: broken; repair or uninstall"),
    ],
)
def test_an_entry_point_that_is_no_task_is_refused(
    monkeypatch: pytest.MonkeyPatch, target: Any, said: str
) -> None:
    _installed(monkeypatch, target)
    with pytest.raises(InvalidInputError, match=said) as error:
        own_tasks()
    assert "entry point 'mine' of paretoformer.tasks, somewhere:Mine of package somewhere," in str(
        error.value
    )


def test_data_of_another_kind_than_declared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, _OtherKind)
    with pytest.raises(InvalidInputError, match="prepared data of kind 'image', its class says 'sequence'"):
        prepare_task("sequence", "somewhere:mine")


def _owned(monkeypatch: pytest.MonkeyPatch) -> TaskData:
    _installed(monkeypatch, Digits)
    return prepare_task("image", "somewhere:mine")


def test_the_recipe_is_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _owned(monkeypatch)
    assert data.digest != prepare_task("image", "digits").digest
    assert isinstance(recipe_of(data), Digits)


def test_data_are_trained_with_the_version_that_prepared_them(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _owned(monkeypatch)
    _installed(monkeypatch, _Versioned)
    with pytest.raises(InvalidInputError, match="task 'somewhere:mine' version 1 is here in version 2"):
        recipe_of(data)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [])
    own_tasks.cache_clear()
    with pytest.raises(InvalidInputError, match="is not installed here; install the package"):
        recipe_of(data)
