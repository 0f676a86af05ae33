"""Jacobian covariance: whether examples pull on the network in different directions.

    J_b = dL_R/dX_0 of example b, v = eigenvalues of the correlation matrix of the rows J_1 .. J_B
    S   = -sum over v of log(v + k) + 1 / (v + k),   k = 1e-5

L_R the random-projection loss, X_0 the embedded tokens. Compares at equal B only. Source: Mellor et al. 2020,
arXiv:2006.04647v1; as a proxy: Abdelfattah et al. 2021, arXiv:2101.08134.
"""

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import log_eigenvalue_score


class JacobCov(Proxy):
    id = "jacob_cov"
    version = 1
    direction = "max"
    needs = frozenset({"embedding_gradients"})
    summary = "correlation of examples' gradients with respect to their embedded tokens"
    num_seeds = 3

    def score(self, passes: Passes) -> Score:
        rows = passes.embedding_gradients
        if rows is None or len(rows) < 2:
            raise UnsupportedError("jacob_cov: there are no two examples with embedded tokens")
        return Score(log_eigenvalue_score(rows), {"examples": float(len(rows))})
