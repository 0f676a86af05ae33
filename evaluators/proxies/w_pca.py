"""W-PCA: how many directions the feed-forwards' hidden activations fill, times the model's size.

    C_l = covariance of the hidden rows of layer l, eigenvalues v_1 >= v_2 >= ...
    PCA_l = smallest k with (v_1 + ... + v_k) / (v_1 + ... + v_f) >= 0.99
    S = (sum_l PCA_l) * parameters

Source: Wang 2025, arXiv:2504.15983; its code stops at the first k *above* the share. One forward, no labels.
It inherits size through the second factor and gives ties; the first factor stands beside it as `s_pca`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from space.errors import UnsupportedError

from ..passes import ROWS_PER_UNIT, Passes
from ..proxy import Proxy, Score

SHARE = 0.99
_ROUND_OFF = 1e-9
"""Of the total variance; an exactly reached share counts as reached."""


class WPca(Proxy):
    id = "w_pca"
    version = 2
    direction = "max"
    needs = frozenset({"hidden"})
    summary = "effective dimension of the feed-forward activations, times parameters"

    def score(self, passes: Passes) -> Score:
        """`short_of_rows` is 1 when the probe had under four rows per unit, which makes the count too low."""
        if not passes.hidden:
            raise UnsupportedError("w_pca: the architecture has no feed-forward; leave it to other proxies")
        s_pca = math.fsum(components(hidden.rows) for hidden in passes.hidden)
        short = any(len(hidden.rows) < ROWS_PER_UNIT * hidden.rows.shape[1] for hidden in passes.hidden)
        return Score(s_pca * passes.num_params, {"s_pca": s_pca, "short_of_rows": float(short)})


def components(rows: Float[Tensor, "rows units"], share: float = SHARE) -> float:
    """Leading principal components that hold `share` of the variance; NaN when there is no variance."""
    centred = rows - rows.mean(0, dtype=torch.float64).to(rows.dtype)
    # the share of the smallest eigenvalues is far above the rounding of a float32 product
    covariance = (centred.T @ centred).double() / len(rows)
    if not torch.isfinite(covariance).all():
        return math.nan
    variances = torch.linalg.eigvalsh(covariance).clamp_min(0.0).flip(0)
    total = float(variances.sum())
    if total == 0.0:
        return math.nan
    reached = variances.cumsum(0) / total >= share - _ROUND_OFF
    return float(reached.int().argmax() + 1)


def components_reference(rows: Float[Tensor, "rows units"], share: float = SHARE) -> float:
    """`components` by singular values and a loop."""
    centred = rows.double() - rows.double().mean(0)
    variances = [float(s) ** 2 for s in torch.linalg.svdvals(centred)]
    total, count, held = sum(variances), 0, 0.0
    if not total > 0.0:
        return math.nan
    while held < (share - _ROUND_OFF) * total:
        held += variances[count]
        count += 1
    return float(count)
