"""CSV of tables: numbers stay numbers, texts that a spreadsheet would run as a formula are disarmed."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from .answers import ColumnsAnswer

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """RFC 4180 with a header line."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([safe(name) for name in columns])
    writer.writerows([[safe(value) for value in row] for row in rows])
    return stream.getvalue()


def front_csv(columnar: ColumnsAnswer) -> str:
    """The columnar form of a front as CSV."""
    return csv_text(columnar["columns"], columnar["data"])


def safe(value: Any) -> Any:
    """
    >>> safe("=1+1"), safe(-1.5), safe(None)
    ("'=1+1", -1.5, '')
    """
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
