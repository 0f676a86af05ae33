"""The stack: choice by unseen rows, intervals that cover, size alone where nothing is better."""

import random
from functools import cache

import numpy as np
import pytest

from search.surrogates import Encoder, Rows, finished_labels, fit_surrogate
from search.surrogates.stack import SIZE, combined, conformal_quantile
from space.architecture import BytesInterface
from space.encoding import STATISTICS
from space.sampling import sample
from space.search_space import SearchSpace, load_preset


@cache
def space() -> SearchSpace:
    interface = BytesInterface(context_length=32, outputs=256)
    return load_preset("decoder-small").for_interface(interface)


@cache
def drawn(count: int) -> Rows:
    rng = random.Random(0)
    return Encoder(space()).rows([sample(space(), rng) for _ in range(count)])


def part(rows: Rows, start: int, stop: int) -> Rows:
    return rows.encoder.rows(rows.architectures[start:stop])


def labels(rows: Rows, noise: float = 0.02) -> np.ndarray:
    """Falls with size and width, with a bend, and with the share of one mixer."""
    column = {name: rows.statistics[:, index] for index, name in enumerate(STATISTICS)}
    smooth = (
        -0.3 * column["log_params"] - 0.2 * np.tanh(column["log_d_model"] - 4.0) - 0.4 * column["all.softmax"]
    )
    return np.asarray(smooth + noise * np.random.default_rng(1).normal(size=len(rows)))


def test_what_is_learned_ranks_unseen_architectures_and_beats_size() -> None:
    rows = drawn(80)
    fitted = fit_surrogate(part(rows, 0, 40), labels(rows)[:40])
    assert fitted.evidence.beats_size
    assert fitted.evidence.tau > fitted.evidence.size_tau
    mean, _ = fitted.predict(part(rows, 40, 80))
    assert np.corrcoef(mean, labels(rows)[40:])[0, 1] > 0.95


def test_intervals_cover_nine_of_ten_unseen_labels() -> None:
    rows = drawn(80)
    covered = []
    for start in (0, 20, 40):
        seen = rows.encoder.rows((*rows.architectures[:start], *rows.architectures[start + 40 :]))
        y = np.concatenate([labels(rows)[:start], labels(rows)[start + 40 :]])
        low, high = fit_surrogate(seen, y).interval(part(rows, start, start + 40))
        there = labels(rows)[start : start + 40]
        covered += list((low <= there) & (there <= high))
    assert 0.84 <= np.mean(covered) <= 0.99


def test_labels_that_say_nothing_but_size_leave_size_alone() -> None:
    rows = drawn(80)
    y = rows.log_params[:, 0] + 0.3 * np.random.default_rng(3).normal(size=80)
    shares = fit_surrogate(part(rows, 0, 12), y[:12]).shares
    assert shares[SIZE] > 0


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 6"):
        fit_surrogate(drawn(5), np.arange(5.0))


def test_the_mixture_has_the_mean_and_deviation_of_its_parts() -> None:
    mean, spread = combined(
        [(np.array([0.0]), np.array([1.0])), (np.array([2.0]), np.array([1.0]))], [0.5, 0.5]
    )
    assert (mean[0], spread[0]) == (1.0, pytest.approx(np.sqrt(2.0)))


def test_the_conformal_quantile_counts_the_new_row() -> None:
    assert conformal_quantile(np.arange(1.0, 20.0)) == 18.0
    assert conformal_quantile(np.arange(1.0, 6.0)) == 5.0


def test_unfinished_results_are_moved_to_their_end() -> None:
    rows = drawn(80)
    ends = labels(rows, noise=0.0)
    fidelity = np.where(np.arange(80) % 2, 1.0, 0.25)
    seen = ends + np.where(fidelity < 1, 0.7, 0.0)
    moved = finished_labels(rows, seen, fidelity)
    np.testing.assert_array_equal(moved[fidelity == 1], ends[fidelity == 1])
    assert np.abs(moved - ends).max() < 0.1


def test_unfinished_results_alone_stay_as_they_are() -> None:
    rows = part(drawn(80), 0, 8)
    y = labels(drawn(80))[:8]
    np.testing.assert_array_equal(finished_labels(rows, y, np.full(8, 0.5)), y)
