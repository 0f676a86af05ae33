import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from evaluators.training.labelled_text import labelled_text_path
from space.errors import InvalidInputError

ROWS = [(f'row {number}, "quoted"', ["odd", "even"][number % 2 == 0]) for number in range(40)]


def _csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_jsonl_give_the_same_task(tmp_path: Path) -> None:
    lines = ['"' + text.replace('"', '""') + f'",{label}' for text, label in ROWS]
    table = labelled_text_path(_csv(tmp_path / "rows.csv", "text,label\n" + "\n".join(lines)), None)
    records = "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)
    lines_task = labelled_text_path(_csv(tmp_path / "rows.jsonl", records), None)
    assert table.digest == lines_task.digest
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert labelled_text_path(tmp_path / "rows.parquet", None).digest == table.digest
    assert table.length == 16
    assert table.preprocessing["classes"] == ["even", "odd"]
    assert table.model == "encoder"


def test_texts_are_cut_and_filled(tmp_path: Path) -> None:
    records = "\n".join(
        json.dumps({"text": "ab" * (1 + number % 30), "label": number % 2}) for number in range(40)
    )
    data = labelled_text_path(_csv(tmp_path / "rows.jsonl", records), 8)
    assert data.train.inputs.shape[1] == 8
    assert set(np.unique(data.train.inputs)) == {0, ord("a"), ord("b")}
    assert data.vocab_size == 256


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "words,label\nx,1", "has the columns words, label; it needs 'text' and 'label'"),
        ("a.csv", "", "has no row"),
        ("a.csv", "text,label\nonly", "line 2 has 1 cells, the header 2; quote texts with commas"),
        ("a.csv", "text,label\nx,", "line 2 has the label ''"),
        ("a.csv", "text,label\n", "has no row"),
        ("a.jsonl", '{"text": "x"}', "has the columns text; it needs 'text' and 'label'"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"label": 1}', "line 2 has the text None; write a text"),
        ("a.jsonl", "\n{", "line 2 is not JSON"),
        ("a.jsonl", "[1]", "line 1 is no object"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        labelled_text_path(_csv(tmp_path / name, content), None)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nä,1".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="is not UTF-8 text"):
        labelled_text_path(path, None)


def test_a_folder_of_texts_by_class_is_a_task(tmp_path: Path) -> None:
    for part, count in (("train", 30), ("test", 6)):
        for number in range(count):
            place = tmp_path / part / ("a", "b")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.txt").write_text(f"text {number}")
    data = labelled_text_path(tmp_path, None)
    assert data.describe()["parts"] == {"train": 24, "validation": 6, "test": 6}
    assert data.preprocessing["classes"] == ["a", "b"]
    (tmp_path / "train" / "a" / "x.txt").write_bytes(b"\xff")
    with pytest.raises(InvalidInputError, match=r"x.txt' is not UTF-8 text \(byte 0\)"):
        labelled_text_path(tmp_path, None)
