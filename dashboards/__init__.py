"""Figures and pages of a job: records in, Plotly figures and HTML text out."""

from .anatomy import PlannedBlock, block_plan
from .assets import plotly_bundle, static_dir
from .charts import Chart
from .cloud import Many, Thinned, thinned_plane
from .drawing import draw_architecture
from .job_charts import chart_named, front_chart, job_charts
from .pages import (
    Preview,
    Question,
    compare_page,
    curl_command,
    curves_chart,
    default_form,
    devices_page,
    error_page,
    explore_chart,
    explore_page,
    forecast_of,
    job_data,
    job_page,
    job_yaml,
    jobs_page,
    new_job_page,
    placed_problems,
    planned_steps,
    preview_html,
    trial_page,
    twin_html,
    view,
)
from .report import report_html
from .selection import Selection, axis_keys, default_selection, read_selection
from .trial_charts import trial_charts
from .trial_log import MOST_LINES, log_text

__all__ = [
    "MOST_LINES",
    "Chart",
    "Many",
    "PlannedBlock",
    "Preview",
    "Question",
    "Selection",
    "Thinned",
    "axis_keys",
    "block_plan",
    "chart_named",
    "compare_page",
    "curl_command",
    "curves_chart",
    "default_form",
    "default_selection",
    "devices_page",
    "draw_architecture",
    "error_page",
    "explore_chart",
    "explore_page",
    "forecast_of",
    "front_chart",
    "job_charts",
    "job_data",
    "job_page",
    "job_yaml",
    "jobs_page",
    "log_text",
    "new_job_page",
    "placed_problems",
    "planned_steps",
    "plotly_bundle",
    "preview_html",
    "read_selection",
    "report_html",
    "static_dir",
    "thinned_plane",
    "trial_charts",
    "trial_page",
    "twin_html",
    "view",
]
