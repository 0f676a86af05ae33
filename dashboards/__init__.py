"""Figures and pages of a job: records in, Plotly figures and HTML text out."""

from .anatomy import PlannedBlock, block_plan
from .assets import plotly_bundle, static_dir
from .charts import Chart
from .drawing import draw_architecture
from .job_charts import chart_named, job_charts
from .pages import (
    Preview,
    compare_page,
    curl_command,
    curves_chart,
    default_form,
    error_page,
    explore_chart,
    explore_page,
    job_data,
    job_page,
    job_yaml,
    jobs_page,
    new_job_page,
    placed_problems,
    planned_steps,
    preview_html,
    trial_page,
    view,
)
from .report import report_html
from .selection import Selection, axis_keys, read_selection
from .trial_charts import trial_charts

__all__ = [
    "Chart",
    "PlannedBlock",
    "Preview",
    "Selection",
    "axis_keys",
    "block_plan",
    "chart_named",
    "compare_page",
    "curl_command",
    "curves_chart",
    "default_form",
    "draw_architecture",
    "error_page",
    "explore_chart",
    "explore_page",
    "job_charts",
    "job_data",
    "job_page",
    "job_yaml",
    "jobs_page",
    "new_job_page",
    "placed_problems",
    "planned_steps",
    "plotly_bundle",
    "preview_html",
    "read_selection",
    "report_html",
    "static_dir",
    "trial_charts",
    "trial_page",
    "view",
]
