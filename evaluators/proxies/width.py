"""Width of the residual stream.

S = d_model
"""

from space.architecture import Architecture

from ..proxy import Score, StaticProxy


class Width(StaticProxy):
    id = "width"
    version = 1
    direction = "max"
    summary = "channels of the residual stream"

    def value(self, architecture: Architecture) -> Score:
        return Score(float(architecture.d_model))
