"""Where things stand: who knows which library, how files are named, how long they are, what nobody does."""

import ast
import functools
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("space", "evaluators", "search", "dashboards", "api")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

FORBIDDEN_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "core", "base"})
MAX_LINES = 500
LONG_FILES: Mapping[str, str] = {}
"""File over the limit -> why it is better whole."""

ROOMS: Mapping[str, tuple[str, ...]] = {
    "optuna": ("search/strategies/",),
    "ray": ("search/workers/",),
    "sqlalchemy": ("search/storage/",),
    "alembic": ("search/storage/",),
    "triton": ("space/kernels/fused/",),
    "onnx": ("space/export/",),
    "onnxruntime": ("space/export/", "evaluators/latency/runtimes/", "evaluators/export_runners/"),
    "sklearn": ("evaluators/", "search/surrogates/"),
    "moocore": ("search/",),
    "plotly": ("dashboards/",),
    "jinja2": ("dashboards/",),
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "uvicorn": ("api/",),
    "typer": ("api/",),
    "rich": ("api/",),
    "structlog": ("api/",),
    "prometheus_client": ("api/",),
    "pydantic_settings": ("api/",),
}
"""Library -> the only places that import it."""
SESSION = "from sqlalchemy.orm import Session"
"""Allowed in search and api: whoever calls a storage function inside a transaction names its type."""

PICKLES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
LOADERS = frozenset({"torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load"})
"""Calls that can run code of the file they read, or write such a file."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(top-level library, the import as text) of every absolute import, also those inside functions."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = ", ".join(alias.name for alias in node.names)
            yield node.module.partition(".")[0], f"from {node.module} import {names}"


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name, call)."""
    for node in nodes(path):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_imported_from_the_checkout(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).resolve() == ROOT / name / "__init__.py"
    assert (ROOT / name / "py.typed").exists()


def test_a_file_is_named_after_what_is_in_it() -> None:
    assert [name_of(path) for path in FILES if path.stem in FORBIDDEN_NAMES] == []


def test_a_long_file_has_its_reason() -> None:
    long = {name_of(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES}
    assert long == set(LONG_FILES)


@pytest.mark.parametrize("library", ROOMS)
def test_a_library_is_known_in_its_room_only(library: str) -> None:
    found = [
        f"{name_of(path)}: {statement}"
        for path in FILES
        for top, statement in imports(path)
        if top == library
        and not name_of(path).startswith(ROOMS[library])
        and not (statement == SESSION and name_of(path).startswith(("search/", "api/")))
    ]
    assert found == []


@pytest.mark.parametrize("library", ROOMS)
def test_a_room_is_used(library: str) -> None:
    """A library that has left its room leaves the table."""
    assert any(top == library for path in FILES for top, _ in imports(path))


def test_nothing_is_pickled() -> None:
    found = [f"{name_of(path)}: {text}" for path in FILES for top, text in imports(path) if top in PICKLES]
    for path in FILES:
        for name, call in calls(path):
            allows = [keyword.value for keyword in call.keywords if keyword.arg == "allow_pickle"]
            is_open = any(not (isinstance(value, ast.Constant) and value.value is False) for value in allows)
            if name in LOADERS or is_open:
                found.append(f"{name_of(path)}: {ast.unparse(call)[:80]}")
    assert found == []


def test_only_the_api_prints() -> None:
    found = [
        name_of(path)
        for path in FILES
        for name, _ in calls(path)
        if name == "print" and not name_of(path).startswith("api/")
    ]
    assert found == []


def test_nothing_is_left_to_be_written() -> None:
    """Abstract bases may say what they lack; nothing else may."""
    bases = (
        "space/choice.py",
        "space/mixing/attention.py",
        "space/mixing/transforms.py",
        "space/positions/additive_bias.py",
    )
    found = [name_of(path) for path in FILES if "NotImplementedError" in path.read_text(encoding="utf-8")]
    assert sorted(found) == sorted(bases)


def test_a_test_folder_is_no_package() -> None:
    """An `__init__.py` in tests/space would hide the package of that name."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []
