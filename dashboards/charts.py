"""A figure together with the table that says the same: for the page, and as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

Value = str | int | float | None
SHOWN_ROWS = 200


@dataclass(frozen=True, slots=True)
class Chart:
    """`rows` hold plain numbers in the units that `columns` name."""

    figure: go.Figure
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]
    note: str = ""
    """What the chart says in one sentence."""

    @property
    def shown(self) -> list[list[str]]:
        """The first rows as the page shows them."""
        return [[_text(value) for value in row] for row in self.rows[:SHOWN_ROWS]]

    @property
    def more(self) -> int:
        """Rows that only the CSV has."""
        return max(0, len(self.rows) - SHOWN_ROWS)

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [
            any(isinstance(row[index], (int, float)) for row in self.rows[:SHOWN_ROWS])
            for index in range(len(self.columns))
        ]


def _text(value: Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else value
