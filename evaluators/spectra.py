"""Numbers from singular values and eigenvalues, as several proxies need them. Symmetric solvers, float64."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LOG_EIGENVALUE_SHIFT = 1e-5
VARIANCE_FLOOR = 1e-12
"""Added to variances, so that a constant row correlates with nothing instead of being undefined."""


def nuclear_norm(matrix: Float[Tensor, "outputs inputs"]) -> float:
    """Sum of the singular values; NaN where an entry is not finite."""
    if not bool(torch.isfinite(matrix).all()):
        return math.nan
    return float(torch.linalg.svdvals(matrix).sum())


def nuclear_norm_reference(matrix: Float[Tensor, "outputs inputs"]) -> float:
    """Trace of the square root of M^T M, in float64."""
    eigenvalues = torch.linalg.eigvalsh(matrix.double().T @ matrix.double())
    return float(eigenvalues.clamp_min(0.0).sqrt().sum())


def spectral_norm(matrix: Float[Tensor, "outputs inputs"]) -> float:
    """The largest singular value; NaN where an entry is not finite."""
    if not bool(torch.isfinite(matrix).all()):
        return math.nan
    gram = matrix.double().T @ matrix.double()
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))


def eigenvalues(symmetric: Float[Tensor, "n n"]) -> Float[Tensor, " n"] | None:
    """Ascending, not below 0; None where an entry is not finite."""
    if not bool(torch.isfinite(symmetric).all()):
        return None
    values: Tensor = torch.linalg.eigvalsh(symmetric.double())
    return values.clamp_min(0.0)


def correlation(rows: Float[Tensor, "rows numbers"]) -> Float[Tensor, "rows rows"]:
    """Of the rows with one another, in float64."""
    centred = rows.double() - rows.double().mean(1, keepdim=True)
    covariance = centred @ centred.T / rows.shape[1]
    deviation = (covariance.diagonal() + VARIANCE_FLOOR).sqrt()
    return covariance / deviation[:, None] / deviation


def correlation_reference(rows: Float[Tensor, "rows numbers"]) -> list[list[float]]:
    """Pair by pair, as defined."""
    table = rows.double().tolist()
    means = [math.fsum(row) / len(row) for row in table]
    count = len(table[0])

    def covariance(a: int, b: int) -> float:
        pairs = zip(table[a], table[b], strict=True)
        return math.fsum((x - means[a]) * (y - means[b]) for x, y in pairs) / count

    deviation = [math.sqrt(covariance(a, a) + VARIANCE_FLOOR) for a in range(len(table))]
    return [
        [covariance(a, b) / deviation[a] / deviation[b] for b in range(len(table))] for a in range(len(table))
    ]


def log_eigenvalue_score(rows: Float[Tensor, "rows numbers"]) -> float:
    """-sum over eigenvalues v of the rows' correlation of log(v + k) + 1 / (v + k), k = 1e-5.

    The eigenvalues of B rows add up to B: comparable at equal B only.
    """
    values = eigenvalues(correlation(rows))
    if values is None:
        return math.nan
    shifted = values + LOG_EIGENVALUE_SHIFT
    return -float((shifted.log() + 1.0 / shifted).sum())


def spectral_entropy(features: Float[Tensor, "rows channels"]) -> float:
    """-sum p log p of the shares p of the covariance's eigenvalues; log of the channels when isotropic.

    NaN when nothing varies.
    """
    own = features.double()
    centred = own - own.mean(0)
    values = eigenvalues(centred.T @ centred / len(features))
    if values is None or float(values.sum()) == 0.0:
        return math.nan
    shares = values / values.sum()
    return -float(torch.special.xlogy(shares, shares).sum())
