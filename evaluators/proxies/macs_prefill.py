"""Multiply-accumulates of one sequence of full length.

    S = MACs of one forward pass, as the built model computes them, in closed form

As a proxy larger is better; as a cost smaller is, which is another evaluator. It is the complexity part of
AZ-NAS (Lee and Ham 2024, arXiv:2403.19232).
"""

from space.architecture import Architecture
from space.costs import costs

from ..proxy import Score, StaticProxy


class MacsPrefill(StaticProxy):
    id = "macs_prefill"
    version = 1
    direction = "max"
    summary = "multiply-accumulates of one full sequence"

    def value(self, architecture: Architecture) -> Score:
        found = costs(architecture)
        return Score(float(found.macs), {"causal": float(found.macs_causal)})
