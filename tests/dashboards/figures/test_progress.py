import itertools
from collections.abc import Callable

from dashboards.figures import progress_figure
from dashboards.figures.progress import EMPTY, progress_rows
from search.records import JobRecord


def test_the_hypervolume_never_shrinks_and_ends_at_the_indicator(job: JobRecord) -> None:
    history = progress_rows(job)
    search, reference = progress_figure(job).data
    assert list(zip(search.x, search.y, strict=True)) == history
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(history))
    assert set(reference.y) == {job.indicators["reference_hypervolume"]}


def test_an_unstarted_job_gets_a_sentence(new_job: Callable[..., JobRecord]) -> None:
    assert progress_figure(new_job()).layout.annotations[0].text == EMPTY
