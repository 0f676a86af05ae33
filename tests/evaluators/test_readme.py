"""The package's README is true: its snippet runs, and its table of proxies is the list."""

import re
from pathlib import Path

import pytest

import evaluators

TEXT = (Path(evaluators.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_snippet_scores_an_architecture() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert set(names["scores"]) == {"w_pca", "zico"}  # type: ignore[call-overload]  # whatever the snippet made


@pytest.mark.parametrize("name", re.findall(r"`([a-z_/]+\.py)`", TEXT))
def test_every_file_it_names_exists(name: str) -> None:
    root = Path(evaluators.__file__).parent
    assert (root / name).exists() or (root.parent / name).exists()
