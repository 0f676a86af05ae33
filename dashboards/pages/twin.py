"""The table that says the same as a figure, as HTML."""

from ..charts import Chart
from .environment import render


def twin_html(chart: Chart) -> str:
    """The first rows, and how many more the CSV has."""
    return render("fragments/twin.html", chart=chart)
