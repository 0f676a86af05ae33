"""One thread per test process: two OpenMP pools on two cores wait for each other more than they compute.

Without a GPU Triton interprets kernels: it decides that when it is imported, so it is said before.

`--few N` keeps at most N cases of every parametrised test, spread over them (`make test-fast`, `test-types`).
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--few", type=int, default=0, help="at most so many cases of every parametrised test")


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    few = config.getoption("--few")
    if not few:
        return
    cases: dict[tuple[object, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        cases[item.path, getattr(item, "originalname", item.name)].append(item)
    kept = {id(item) for same in cases.values() for item in spread(same, few)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that start Ray clusters end one another's when two run at once."""
    is_grouping = getattr(item.config.option, "loadgroup", False)  # in a worker of pytest-xdist
    if is_grouping and item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
        pytest.fail(
            f"pytest {pytest.__version__} does not keep groups of tests together (pytest-xdist issue 1386); "
            "install what constraints.txt names"
        )


def spread(cases: list[pytest.Item], few: int) -> list[pytest.Item]:
    """The first, the last, and as many as are wanted evenly between them."""
    if len(cases) <= few:
        return cases
    last = len(cases) - 1
    return [cases[round(k * last / max(1, few - 1))] for k in range(few)]
