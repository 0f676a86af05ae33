"""Trainability of AZ-NAS: whether blocks carry gradients back at their size.

    G_out = +-1 at a block's output, G_in what comes back at its input
    s     = ||G_in^T G_out|| / ||G_out^T G_out||       (spectral norms)
    S     = mean over blocks of 2 - s - 1 / (s + 1e-6)        0 at best, at s = 1

A block that gives back exactly what it gets is left out. Source: Lee and Ham 2024, arXiv:2403.19232; the
division is ours: without it a perfect isometry is punished for its width. Cotangents belong to places in the
batch, so that another order of examples gives another draw.
"""

import statistics

from space.errors import UnsupportedError

from ..passes import Isometry, Passes
from ..proxy import Proxy, Score
from ..spectra import spectral_norm

SHIFT = 1e-6


class AzTrainability(Proxy):
    id = "az_trainability"
    version = 1
    direction = "max"
    needs = frozenset({"isometry"})
    summary = "whether every block carries gradients back at their size"

    def score(self, passes: Passes) -> Score:
        blocks = [block for block in passes.isometry if not block.is_identity]
        if not blocks:
            raise UnsupportedError("az_trainability: no block changes what passes through it")
        terms = [term(block) for block in blocks]
        return Score(statistics.fmean(terms), {"blocks": float(len(terms))})


def term(block: Isometry) -> float:
    """Of one block."""
    s = spectral_norm(block.returned) / spectral_norm(block.sent)
    return 2.0 - s - 1.0 / (s + SHIFT)
