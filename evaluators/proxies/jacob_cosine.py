"""Jacobian cosine: whether examples pull on the network in different directions, by angles.

    N_b = J_b / ||J_b||,   c_ij = N_i . N_j
    S   = 1 - 1 / (B^2 - B) * sum over i != j of |c_ij|^(1/20) / 2

J_b = dL_R/dX_0 of example b, L_R the random-projection loss. Source: Celotti et al. 2020 (cited by Serianni
and Kalita 2023, ACL), whose code takes the gradient of a position embedding.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score

EXPONENT = 1 / 20


class JacobCosine(Proxy):
    id = "jacob_cosine"
    version = 1
    direction = "max"
    needs = frozenset({"embedding_gradients"})
    summary = "angles between examples' gradients with respect to their embedded tokens"
    num_seeds = 3

    def score(self, passes: Passes) -> Score:
        rows = passes.embedding_gradients
        if rows is None or len(rows) < 2:
            raise UnsupportedError("jacob_cosine: there are no two examples with embedded tokens")
        return Score(cosine_score(rows), {"examples": float(len(rows))})


def cosine_score(rows: Float[Tensor, "examples numbers"]) -> float:
    """NaN where a gradient is 0 or not finite."""
    wide = rows.double()
    unit = wide / torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    cosines = (unit @ unit.T).abs() ** EXPONENT
    b = len(rows)
    off_diagonal = cosines.sum() - cosines.diagonal().sum()
    return 1.0 - float(off_diagonal) / 2 / (b * b - b)


def cosine_score_reference(rows: Float[Tensor, "examples numbers"]) -> float:
    """Pair by pair."""
    total, b = 0.0, len(rows)
    for i in range(b):
        for j in range(b):
            if i != j:
                x, y = rows[i].double(), rows[j].double()
                total += abs(float(x @ y / x.norm() / y.norm())) ** EXPONENT
    return 1.0 - total / 2 / (b * b - b)
