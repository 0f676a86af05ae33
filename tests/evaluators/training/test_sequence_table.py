import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from evaluators.training.sequence_table import sequence_table
from space.errors import InvalidInputError

RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=(30, 6)).round(4)
LABELS = [("up", "down")[number % 2] for number in range(30)]


def _jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def _csv(path: Path) -> Path:
    rows = [",".join([label, *map(str, row)]) for label, row in zip(LABELS, SERIES, strict=True)]
    path.write_text("\n".join(["label,a,b,c,d,e,f", *rows]))
    return path


def test_all_formats_give_the_same_task(tmp_path: Path) -> None:
    records = [{"label": label, "values": list(row)} for label, row in zip(LABELS, SERIES, strict=True)]
    table = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"label": LABELS, "values": SERIES.tolist()}), table)
    paths = [_csv(tmp_path / "a.csv"), _jsonl(tmp_path / "a.jsonl", records), table]
    tasks = [sequence_table(path, None) for path in paths]
    assert len({task.digest for task in tasks}) == 1
    assert (tasks[0].input, tasks[0].length, tasks[0].outputs) == ("values", 6, 2)


def test_tokens_and_channels_are_read(tmp_path: Path) -> None:
    tokens = RNG.integers(0, 9, (30, 5)).tolist()
    found = sequence_table(
        _jsonl(tmp_path / "a.jsonl", [{"tokens": t, "label": n % 2} for n, t in enumerate(tokens)]), None
    )
    assert (found.input, found.length) == ("bytes", 5)
    pairs = RNG.normal(size=(30, 5, 2)).tolist()
    found = sequence_table(
        _jsonl(tmp_path / "b.jsonl", [{"values": v, "label": n % 2} for n, v in enumerate(pairs)]), None
    )
    assert found.train.inputs.shape[1:] == (5, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "label,x\nup,1\ndown,much", "line 3: 'x' is 'much'; every value is a finite number"),
        ("a.csv", "label,x\nup,nan", "line 2: 'x' is 'nan'"),
        ("a.csv", "label\nup", "no column beside 'label'"),
        ("a.csv", "x,y\n1,2", "has the columns x, y; it needs 'label'"),
        ("a.csv", "label,x,x\nup,1,2", "has the column 'x' 2 times; rename one"),
        ("a.csv", "label,x\nup,1,2", "line 2 has 3 cells, the header 2"),
        ("a.csv", "label,x\n,1", "line 2 has the label ''; a class is a text or an integer"),
        ("a.jsonl", '{"label": 1}', "has the columns label; it needs 'values' and 'label'"),
        ("a.jsonl", '{"label": 1, "values": [1, "a"]}', "line 1: 'values' is no list of numbers"),
        ("a.jsonl", '{"label": 1, "values": [[1], [1, 2]]}', "line 1: 'values' is no list of numbers"),
        (
            "a.jsonl",
            '{"label": 1, "values": [1, 2]}\n{"label": 1, "values": [1]}',
            "line 2 has 1 values, line 1 2 values; cut or fill all to one length",
        ),
        ("a.jsonl", '{"label": 1, "tokens": [1.5]}', "line 1: tokens are integers in one list"),
        ("a.jsonl", '{"label": 1.5, "values": [1]}', r"line 1 has the label 1.5"),
        ("a.parquet", "no parquet", "is not a Parquet file"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        sequence_table(tmp_path / name, None)
    assert "\n" not in caught.value.message
