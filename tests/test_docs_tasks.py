"""docs/tasks.md has every task with its kind, sizes and floors, and every member of the contract."""

import re
from pathlib import Path

import pytest

from evaluators.training import Recipe, Task, prepare_task
from evaluators.training.tasks import TASKS
from evaluators.training.tasks.listops import FULL, MINI, Size

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def rows(first_cell: str) -> dict[str, list[str]]:
    """Name -> cells of the table whose header begins so."""
    table = re.search(rf"^\| {first_cell} \|.*?(?=\n\n)", TEXT, re.M | re.S)
    assert table, f"docs/tasks.md has no table '{first_cell}'"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    return {line[0].strip("`"): line[1:] for line in lines}


def test_every_task_is_in_both_tables_with_its_kind() -> None:
    about, floors = rows("name \\| kind"), rows("name \\| guessing")
    assert set(about) == set(floors) == set(TASKS)
    assert {name: cells[0].strip("`") for name, cells in about.items()} == {
        name: task.kind for name, task in TASKS.items()
    }
    assert all(cell for cells in floors.values() for cell in cells)


@pytest.mark.parametrize("name", ["digits", "mnist5k", "mnist1d", "mqar"])
def test_stated_sizes_are_those_of_the_data(name: str) -> None:
    data = prepare_task(TASKS[name].kind, name)
    sizes = [f"{len(data.part(part)):,}" for part in ("train", "validation", "test")]
    assert rows("name \\| kind")[name][-1] == ", ".join(sizes)
    error = data.source.get("majority_error", data.source.get("guessing_error"))
    assert f"{error:.2f}" in rows("name \\| guessing")[name][0]


@pytest.mark.parametrize(("name", "size"), [("listops", FULL), ("listops-mini", MINI)])
def test_stated_trees_are_those_drawn(name: str, size: Size) -> None:
    cells = rows("name \\| kind")[name]
    assert cells[1] == f"{size.shortest} to {size.longest:,} symbols"
    assert cells[-1] == ", ".join(f"{count:,}" for count in size.counts)


def test_every_member_of_the_contract_is_described() -> None:
    described = {
        name.partition("(")[0] for cell in rows("member") for name in re.findall(r"[a-z_]+", cell)[:2]
    }
    methods = {name for name in vars(Recipe) if not name.startswith("_")}
    facts = set(Task.__annotations__)
    assert methods | facts | {"prepare"} <= described
