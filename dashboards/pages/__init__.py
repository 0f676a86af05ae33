"""Pages as HTML text: records in, strings out."""

from .compare import compare_page, curves_chart
from .devices import Question, devices_page, forecast_of
from .error import error_page
from .explore import explore_chart, explore_page
from .job import job_page
from .job_form import curl_command, default_form, job_data, job_yaml
from .jobs import jobs_page
from .new_job import Preview, new_job_page, placed_problems, planned_steps, preview_html
from .trial import trial_page
from .twin import twin_html
from .view import view

__all__ = [
    "Preview",
    "Question",
    "compare_page",
    "curl_command",
    "curves_chart",
    "default_form",
    "devices_page",
    "error_page",
    "explore_chart",
    "explore_page",
    "forecast_of",
    "job_data",
    "job_page",
    "job_yaml",
    "jobs_page",
    "new_job_page",
    "placed_problems",
    "planned_steps",
    "preview_html",
    "trial_page",
    "twin_html",
    "view",
]
