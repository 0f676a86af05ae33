"""Pages as HTML text: records in, strings out."""

from .compare import compare_page, curves_chart
from .error import error_page
from .explore import explore_chart, explore_page
from .job import job_page
from .job_form import curl_command, default_form, job_data, job_yaml
from .jobs import jobs_page
from .new_job import Preview, new_job_page, placed_problems, planned_steps, preview_html
from .trial import trial_page
from .view import view

__all__ = [
    "Preview",
    "compare_page",
    "curl_command",
    "curves_chart",
    "default_form",
    "error_page",
    "explore_chart",
    "explore_page",
    "job_data",
    "job_page",
    "job_yaml",
    "jobs_page",
    "new_job_page",
    "placed_problems",
    "planned_steps",
    "preview_html",
    "trial_page",
    "view",
]
