"""Every case of docs/faults.md has tests that carry its number in their name, and the table says where.

`python tests/test_faults.py` writes the files into the table.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "faults.md"
CASES = (*(f"F{n:02}" for n in range(1, 70)), *(f"A{n:02}" for n in range(1, 34)))
ROW = re.compile(r"^\| ([FA]\d\d) \| (.+?) \| (.*?) ?\| (.*?) ?\|$")


def numbers(name: str) -> list[str]:
    """The cases in the name of a test.

    >>> numbers("test_g1_f14_a03_nothing_is_lost")
    ['F14', 'A03']
    """
    return [part.upper() for part in name.split("_") if re.fullmatch(r"[fa]\d\d", part)]


def files_of_cases() -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for case in numbers(node.name):
                    found[case].add(path.relative_to(TESTS).as_posix())
    return {case: sorted(files) for case, files in found.items()}


def rows() -> dict[str, re.Match[str]]:
    matches = map(ROW.match, TABLE.read_text(encoding="utf-8").splitlines())
    return {match[1]: match for match in matches if match}


def test_every_case_has_a_row_and_a_test_or_a_reason() -> None:
    listed, tried = rows(), files_of_cases()
    assert tuple(listed) == CASES
    assert set(tried) <= set(CASES)
    for case in CASES:
        assert case in tried or listed[case][4].strip(), f"{case} has neither a test nor a reason"


def test_the_table_says_where_a_case_is_tried() -> None:
    tried = files_of_cases()
    wrong = [case for case, row in rows().items() if row[3] != shown(tried.get(case, []))]
    assert wrong == [], "renew the table: python tests/test_faults.py"


def shown(files: list[str]) -> str:
    return ", ".join(f"`{file}`" for file in files)


def renewed(line: str, tried: dict[str, list[str]]) -> str:
    if (row := ROW.match(line)) is None:
        return line
    where = shown(tried.get(row[1], []))
    return f"| {row[1]} | {row[2]} | {where} | {row[4].strip()} |".replace("  |", " |")


if __name__ == "__main__":
    known = files_of_cases()
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    TABLE.write_text("\n".join(renewed(line, known) for line in lines) + "\n", encoding="utf-8")
