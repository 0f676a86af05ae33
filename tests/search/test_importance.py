"""Importances of made-up functions of genes: the closed form, the order, nothing in noise."""

import datetime as dt
import doctest
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from search import gene_values, importance
from search.gene_values import GENES
from search.importance import (
    LEAST_TRIALS,
    best_rows,
    divergence,
    divergences,
    importance_of,
    importances,
    levels_of,
)
from search.records import TrialRecord

BEGAN = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
WIDTHS = (32, 48, 64, 96, 128, 160, 192, 224)


def architecture(rng: random.Random) -> dict[str, Any]:
    """Genes that are independent of each other; `window` only beside windowed mixers."""
    mixer: dict[str, Any] = {"kind": rng.choice(["softmax", "pool", "sliding_window"]), "num_heads": 4}
    if mixer["kind"] == "sliding_window":
        mixer["window"] = rng.choice([8, 16, 32, 64])
    d_model = rng.choice(WIDTHS)
    layer = {
        "mixer": mixer,
        "feed_forward": {"kind": "mlp", "activation": rng.choice(["relu", "gelu"]), "d_ff": 2 * d_model},
        "norm": {"kind": "rmsnorm"},
        "placement": "pre",
        "residual": "serial",
        "number_format": rng.choice(["fp32", "int8_dynamic"]),
    }
    return {
        "d_model": d_model,
        "position": {"kind": "rope"},
        "layers": [layer] * rng.choice([1, 2, 3, 4]),
    }


def trial(number: int, one: dict[str, Any], value: float) -> TrialRecord:
    return TrialRecord(
        job_id="j", number=number, origin="random", parents=(), note="", asked_after=0,
        architecture_id=str(number), training_id=str(number), architecture=one, state="completed",
        reason=None, message=None, attempt=1, rung=1, steps=10, values={"loss": value}, spread={}, kinds={},
        flags=(), final=None, on_front=False, created_at=BEGAN, ended_at=BEGAN,
    )  # fmt: skip


def made(count: int, value: Callable[[dict[str, Any], random.Random], float]) -> list[TrialRecord]:
    rng = random.Random(5)
    drawn = [architecture(rng) for _ in range(count)]
    return [trial(number, one, value(one, rng)) for number, one in enumerate(drawn)]


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(importance).failed == doctest.testmod(gene_values).failed == 0


def test_a_gene_that_decides_alone_has_the_closed_form() -> None:
    """Four levels, the best quarter is one of them: sum of q^2 / p less 1 is 1 / (1/4) - 1 = 3."""
    levels = np.arange(4000) % 4
    best = best_rows([float(level) for level in levels])
    assert best.sum() == 1000
    assert divergence(levels, best) == pytest.approx(3, rel=2e-2)
    assert divergence(np.arange(4000) // 4 % 5, best) == pytest.approx(0, abs=1e-2)


def test_many_masks_at_once_give_what_each_gives() -> None:
    generator = np.random.default_rng(0)
    levels = generator.integers(-1, 4, 200)
    masks = generator.random((30, 200)) < 0.25
    masks[0] = levels < 0
    expected = [divergence(levels, mask) for mask in masks]
    assert divergences(levels, masks) == pytest.approx(expected)
    assert expected[0] == 0


def test_genes_come_in_the_order_of_a_known_function() -> None:
    def value(one: dict[str, Any], rng: random.Random) -> float:
        softmax: bool = one["layers"][0]["mixer"]["kind"] == "softmax"
        return -float(one["d_model"]) - 90.0 * softmax + rng.gauss(0, 5)

    found = importance_of(made(600, value), "loss")
    assert found.trials == 600
    assert [gene.gene for gene in found.genes[:2]] == ["d_model", "mixer"]
    assert sum(gene.share for gene in found.genes) == pytest.approx(1)
    clear = {gene.gene for gene in found.genes if gene.is_above_chance}
    assert {"d_model", "mixer"} <= clear
    assert "norm" not in {gene.gene for gene in found.genes}, "it is the same everywhere"


def test_the_order_is_that_of_optuna() -> None:
    """On genes that every architecture has, both definitions rank the deciding ones first and alike."""

    def value(one: dict[str, Any], rng: random.Random) -> float:
        return -float(one["d_model"]) - 30.0 * len(one["layers"]) + rng.gauss(0, 5)

    trials = made(400, value)
    keys = ("d_model", "num_layers", "activation", "number_format")
    levels = {key: levels_of([GENES[key].of(one.architecture) for one in trials]) for key in keys}
    study = optuna.create_study()
    for row, trial in enumerate(trials):
        study.add_trial(
            optuna.trial.create_trial(
                params={key: int(levels[key][row]) for key in keys},
                distributions={
                    key: optuna.distributions.CategoricalDistribution(range(int(levels[key].max()) + 1))
                    for key in keys
                },
                value=trial.values["loss"],
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    theirs = list(optuna.importance.get_param_importances(study, evaluator=evaluator))
    ours = [gene.gene for gene in importance_of(trials, "loss").genes if gene.gene in keys]
    assert ours[:2] == theirs[:2] == ["d_model", "num_layers"]


def test_noise_is_mostly_within_chance() -> None:
    found = importance_of(made(300, lambda _, rng: rng.random()), "loss")
    assert sum(gene.is_above_chance for gene in found.genes) <= 1


def test_a_gene_some_have_counts_by_those_that_have_it() -> None:
    """Only the window matters, and only a third of the architectures has one."""

    def value(one: dict[str, Any], rng: random.Random) -> float:
        return -float(one["layers"][0]["mixer"].get("window", 20)) + rng.gauss(0, 0.1)

    genes = importance_of(made(600, value), "loss").genes
    assert genes[0].gene == "window"
    assert genes[0].is_above_chance


def test_too_few_trials_have_no_genes() -> None:
    trials = made(LEAST_TRIALS - 1, lambda one, _: float(one["d_model"]))
    (found,) = importances(trials, ["loss"])
    assert (found.trials, found.genes, found.is_enough) == (LEAST_TRIALS - 1, (), False)


def test_only_completed_search_trials_count() -> None:
    trials = made(40, lambda one, _: float(one["d_model"]))
    trials[0] = replace(trials[0], state="pruned")
    trials[1] = replace(trials[1], number=-1)
    trials[2] = replace(trials[2], values={})
    assert importance_of(trials, "loss").trials == 37


def test_numbers_of_many_values_are_cut_at_quantiles() -> None:
    levels = levels_of([float(value) for value in range(60)])
    assert np.bincount(levels).tolist() == [10] * importance.MAX_LEVELS
