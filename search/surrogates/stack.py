"""The surrogate of one objective: several models, weighed by their errors on rows they have not seen.

    yhat = sum_m w_m yhat_m,   w >= 0, sum w = 1: the combination with the least squared out-of-fold error
    interval = yhat -+ c z s,   c z: the conformal quantile of |y - yhat| / s over the out-of-fold rows

The models are lines on the statistics and on all genes, a Gaussian process on the statistics, trees once
there are rows enough, and size alone: a line on log parameters. Rank correlation is Kendall's tau out of
fold, with a bootstrap interval; when its lower end is below that of size alone, size alone predicts.

Source: evaluators_and_search.md 5.3; Breiman 1996, doi:10.1007/BF00117832 (stacking); Lei et al. 2018,
doi:10.1080/01621459.2017.1307116 (conformal intervals scaled by a spread).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy

from .forest import fit_forest
from .gaussian_process import GaussianProcess, fit_gaussian_process
from .ridge import fit_ridge
from .rows import Rows

FOLDS = 5
FEWEST_ROWS = 6
"""Fewer have no folds worth the name."""
FEWEST_FOR_TREES = 40
ALWAYS_REFITTED = 30
"""Up to so many rows the folds find hyperparameters of their own; beyond, those of all rows serve."""
BOOTSTRAPS = 40
COVERAGE = 0.9
_NORMAL = 1.6448536269514722
"""Standard deviations on each side of a normal mean that hold `COVERAGE`."""
SIZE = "size"


class Model(Protocol):
    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every row."""
        ...


Fit = Callable[[np.ndarray, np.ndarray], Model]


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of model and the columns it reads."""

    name: str
    columns: Callable[[Rows], np.ndarray]
    fit: Fit


@dataclass(frozen=True, slots=True)
class Evidence:
    """How well architectures are ranked that the models have not seen."""

    tau: float
    tau_low: float
    """Lower end of the bootstrap interval."""
    size_tau: float
    size_tau_low: float

    @property
    def beats_size(self) -> bool:
        return self.tau_low >= self.size_tau_low


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A fitted stack."""

    models: tuple[tuple[Form, Model], ...]
    weights: tuple[float, ...]
    spread_factor: float
    """Makes `spread` a normal deviation: the conformal quantile over the normal one."""
    evidence: Evidence

    def predict(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Mean and calibrated standard deviation of every row."""
        found = [model.predict(form.columns(rows)) for form, model in self.models]
        mean, spread = combined(found, self.weights)
        return mean, self.spread_factor * spread

    def interval(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 90 % interval of every row."""
        mean, spread = self.predict(rows)
        return mean - _NORMAL * spread, mean + _NORMAL * spread

    @property
    def shares(self) -> Mapping[str, float]:
        """Form of model -> weight."""
        return {form.name: weight for (form, _), weight in zip(self.models, self.weights, strict=True)}


def fit_surrogate(rows: Rows, y: np.ndarray) -> Surrogate:
    """The stack for these rows, in an order that the caller keeps: folds go by position."""
    if len(y) < FEWEST_ROWS:
        raise ValueError(f"{len(y)} rows are fewer than {FEWEST_ROWS}; evaluate more architectures first")
    forms = _forms(rows)
    models = [(form, form.fit(form.columns(rows), y)) for form in forms]
    folds = np.arange(len(y)) % min(FOLDS, len(y))
    unseen = [_out_of_fold(form, model, rows, y, folds) for form, model in models]
    means = np.stack([mean for mean, _ in unseen], axis=1)
    weights = _least_error(means, y)
    size = next(index for index, form in enumerate(forms) if form.name == SIZE)
    evidence = _evidence(y, means @ weights, means[:, size])
    if not evidence.beats_size:
        weights = np.eye(len(forms))[size]
    kept = [index for index, weight in enumerate(weights) if weight > 0]
    shares = tuple(float(weights[index]) for index in kept)
    mean, spread = combined([unseen[index] for index in kept], shares)
    factor = conformal_quantile(np.abs(y - mean) / np.maximum(spread, 1e-12)) / _NORMAL
    return Surrogate(tuple(models[index] for index in kept), shares, factor, evidence)


def combined(
    found: Sequence[tuple[np.ndarray, np.ndarray]], weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the mixture of normal predictions."""
    mean = sum((w * m for w, (m, _) in zip(weights, found, strict=True)), np.zeros_like(found[0][0]))
    square = sum(
        (w * (s**2 + (m - mean) ** 2) for w, (m, s) in zip(weights, found, strict=True)), np.zeros_like(mean)
    )
    return mean, np.sqrt(square)


def conformal_quantile(scores: np.ndarray) -> float:
    """The score that a new row stays below in `COVERAGE` of all cases: the ceil((n + 1) c)-th of n, at most
    the largest.
    """
    place = min(len(scores), int(np.ceil((len(scores) + 1) * COVERAGE)))
    return float(np.sort(scores)[place - 1])


def _forms(rows: Rows) -> tuple[Form, ...]:
    """The models that this many rows can carry; only columns that differ between them are read."""
    shares, genes = _varied(rows.statistics), _varied(rows.genes)

    def of_statistics(some: Rows) -> np.ndarray:
        return some.statistics[:, shares]

    def of_all(some: Rows) -> np.ndarray:
        return np.column_stack([some.statistics[:, shares], some.genes[:, genes]])

    forms = [
        Form(SIZE, lambda some: some.log_params, fit_ridge),
        Form("ridge on statistics", of_statistics, fit_ridge),
        Form("ridge on genes", of_all, fit_ridge),
        Form("gaussian process", of_statistics, fit_gaussian_process),
    ]
    if len(rows) >= FEWEST_FOR_TREES:
        forms.append(Form("trees", of_all, fit_forest))
    return tuple(forms)


def _varied(x: np.ndarray) -> np.ndarray:
    """Indices of the columns that are not constant, of equal ones the first; never none."""
    seen: dict[bytes, int] = {}
    for index in range(x.shape[1]):
        column = x[:, index]
        if np.ptp(column) > 1e-12:
            seen.setdefault(((column - column.mean()) / column.std()).round(9).tobytes(), index)
    return np.array(sorted(seen.values()) or [0], dtype=np.int64)


def _out_of_fold(
    form: Form, model: Model, rows: Rows, y: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    x = form.columns(rows)
    mean, spread = np.empty(len(y)), np.empty(len(y))
    for fold in range(folds.max() + 1):
        there, rest = folds == fold, folds != fold
        if isinstance(model, GaussianProcess) and len(y) > ALWAYS_REFITTED:
            fitted: Model = fit_gaussian_process(x[rest], y[rest], parameters=model.parameters)
        else:
            fitted = form.fit(x[rest], y[rest])
        mean[there], spread[there] = fitted.predict(x[there])
    return mean, spread


def _least_error(means: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of at least 0 that sum to 1 (enforced by a heavy extra row)."""
    scale = float(y.std()) or 1.0
    heavy = 1e3 * np.sqrt(len(y))
    design = np.vstack([means / scale - y.mean() / scale, np.full(means.shape[1], heavy)])
    target = np.append((y - y.mean()) / scale, heavy)
    weights, _ = scipy.optimize.nnls(design, target)
    weights = np.where(weights < 0.02, 0.0, weights)
    if weights.sum() == 0:
        weights[np.argmin(((means - y[:, None]) ** 2).sum(axis=0))] = 1.0
    found: np.ndarray = weights / weights.sum()
    return found


def _evidence(y: np.ndarray, stacked: np.ndarray, size: np.ndarray) -> Evidence:
    generator = np.random.default_rng(0)
    draws = [generator.integers(0, len(y), len(y)) for _ in range(BOOTSTRAPS)]

    def low(predicted: np.ndarray) -> float:
        return float(np.quantile([_tau(predicted[draw], y[draw]) for draw in draws], 0.025))

    return Evidence(_tau(stacked, y), low(stacked), _tau(size, y), low(size))


def _tau(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(scipy.stats.kendalltau(a, b).statistic)
