"""Gradient norm: how strongly the task loss pulls on every weight matrix.

    S = sum over matrices W of mixers and feed-forwards of ||dL/dW||_2,   L the mean loss

Source: Abdelfattah et al. 2021, arXiv:2101.08134.
"""

import math

import torch

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class GradNorm(Proxy):
    id = "grad_norm"
    version = 1
    direction = "max"
    needs = frozenset({"gradients"})
    summary = "norms of the gradients of all matrices"

    def score(self, passes: Passes) -> Score:
        """Grows with the scale of the loss: compare at equal batch and loss only."""
        norms = [
            float(torch.linalg.vector_norm(m.gradient)) for m in passes.matrices if m.gradient is not None
        ]
        if not norms:
            raise UnsupportedError("grad_norm: no mixer or feed-forward has a weight matrix")
        return Score(math.fsum(norms), {"mean_per_matrix": math.fsum(norms) / len(norms)})
