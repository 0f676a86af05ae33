"""The public interface is a golden file. Renew it, and read the difference, with

python tests/api/test_openapi.py
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from api.app import create_app
from api.settings import Settings
from search.storage.database import Database

GOLDEN = Path(__file__).parents[1] / "data" / "openapi.json"


def document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/p.db")
        made: dict[str, Any] = json.loads(json.dumps(create_app(Settings(), database).openapi()))
        database.close()
    return made


def test_the_interface_is_the_golden_one() -> None:
    assert document() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_reference_leads_somewhere() -> None:
    made = document()
    names = set(made["components"]["schemas"])
    text = json.dumps(made)
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= names
    assert "$defs" not in text


def test_every_operation_has_words() -> None:
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            assert operation.get("description"), path


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(document(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"written: {GOLDEN}\n")
