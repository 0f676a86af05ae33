"""Pages as HTML text: records in, strings out."""

from .compare import compare_page, curves_chart
from .error import error_page
from .explore import explore_chart, explore_page
from .job import job_page
from .jobs import jobs_page
from .new_job import default_form, job_data, new_job_page
from .trial import trial_page
from .view import view

__all__ = [
    "compare_page",
    "curves_chart",
    "default_form",
    "error_page",
    "explore_chart",
    "explore_page",
    "job_data",
    "job_page",
    "jobs_page",
    "new_job_page",
    "trial_page",
    "view",
]
