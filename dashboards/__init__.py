"""Figures and pages of a job: records in, Plotly figures and HTML text out."""

from .anatomy import PlannedBlock, block_plan
from .assets import plotly_bundle, static_dir
from .charts import Chart
from .drawing import draw_architecture
from .job_charts import chart_named, job_charts
from .pages import (
    compare_page,
    curves_chart,
    default_form,
    error_page,
    explore_chart,
    explore_page,
    job_data,
    job_page,
    jobs_page,
    new_job_page,
    trial_page,
    view,
)
from .report import report_html
from .selection import Selection, axis_keys, read_selection
from .trial_charts import trial_charts

__all__ = [
    "Chart",
    "PlannedBlock",
    "Selection",
    "axis_keys",
    "block_plan",
    "chart_named",
    "compare_page",
    "curves_chart",
    "default_form",
    "draw_architecture",
    "error_page",
    "explore_chart",
    "explore_page",
    "job_charts",
    "job_data",
    "job_page",
    "jobs_page",
    "new_job_page",
    "plotly_bundle",
    "read_selection",
    "report_html",
    "static_dir",
    "trial_charts",
    "trial_page",
    "view",
]
