"""Where commands write: results to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160
"""Columns where there is no terminal to ask, unless COLUMNS says otherwise."""


def out() -> Console:
    """Results. Numbers and words keep their own colours."""
    is_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=PIPE_WIDTH if is_pipe else None)


def err() -> Console:
    """Progress, hints and errors."""
    return Console(stderr=True, highlight=False)


def emit_json(value: object) -> None:
    """One JSON value and nothing else."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> Table:
    """A plain table; the texts are shown as they are, never read as markup."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        made.add_column(Text(name), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def pairs(rows: Sequence[tuple[str, Any]]) -> Table:
    """Names and values, one under the other."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(Text(name), Text(str(value)))
    return made
