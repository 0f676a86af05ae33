import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import LogisticRegression

from evaluators.training import TaskData, prepare_task
from evaluators.training.tasks.mnist1d import (
    PADDED,
    distorted,
    resampled,
    signals,
    smooth,
    standard_templates,
)


@pytest.fixture(scope="module")
def data() -> TaskData:
    return prepare_task("sequence", "mnist1d")


def test_it_has_the_published_sizes_and_is_standardised(data: TaskData) -> None:
    assert [len(data.part(name)) for name in ("train", "validation", "test")] == [3200, 800, 1000]
    assert data.train.inputs.shape == (3200, 40, 1)
    assert data.train.inputs.mean() == pytest.approx(0, abs=1e-5)
    assert data.train.inputs.std() == pytest.approx(1, abs=1e-5)
    assert prepare_task("sequence", "mnist1d").digest == data.digest


def test_a_linear_model_gets_about_a_third_right(data: TaskData) -> None:
    """0.32 with the original templates: what tells the class is the order, not the place."""
    flat = {name: data.part(name).inputs[:, :, 0] for name in ("train", "test")}
    model = LogisticRegression(C=0.1, max_iter=300).fit(flat["train"], data.train.targets)
    assert 0.25 < model.score(flat["test"], data.test.targets) < 0.45


def test_templates_start_at_zero_with_deviation_one_sixth() -> None:
    templates = standard_templates()
    np.testing.assert_allclose(templates.std(1), 1 / 6)
    assert not templates[:, 0].any()


def test_every_class_is_equally_frequent() -> None:
    _, labels = signals(50, np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [5] * 10


def test_smoothing_is_the_gaussian_filter_of_deviation_two() -> None:
    noise = np.random.default_rng(0).standard_normal(PADDED)
    np.testing.assert_allclose(smooth(noise), gaussian_filter1d(noise, 2.0), atol=1e-12)


def test_resampling_reads_a_line_exactly() -> None:
    np.testing.assert_allclose(resampled(np.arange(12.0), 23), np.arange(23) / 2)


def test_the_same_generator_gives_the_same_example() -> None:
    one, other = (distorted(standard_templates()[3], np.random.default_rng(5)) for _ in "ab")
    np.testing.assert_array_equal(one, other)
    assert one.shape == (40,)
