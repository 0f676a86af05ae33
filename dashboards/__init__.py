"""Figures and pages of a job: records in, Plotly figures and HTML text out."""

from .assets import plotly_bundle, static_dir
from .drawing import draw_architecture
from .pages import (
    compare_page,
    curves_chart,
    default_form,
    error_page,
    job_data,
    job_page,
    jobs_page,
    new_job_page,
    trial_page,
    view,
)
from .report import report_html

__all__ = [
    "compare_page",
    "curves_chart",
    "default_form",
    "draw_architecture",
    "error_page",
    "job_data",
    "job_page",
    "jobs_page",
    "new_job_page",
    "plotly_bundle",
    "report_html",
    "static_dir",
    "trial_page",
    "view",
]
