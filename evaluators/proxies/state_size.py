"""Numbers kept between tokens.

S = numbers in the state (keys and values, or recurrent matrices) of one sequence after all tokens
"""

from space.architecture import Architecture
from space.costs import BYTES_PER_NUMBER, costs
from space.errors import UnsupportedError

from ..proxy import Score, StaticProxy


class StateSize(StaticProxy):
    id = "state_size"
    version = 1
    direction = "max"
    summary = "numbers kept between tokens after a full context"

    def value(self, architecture: Architecture) -> Score:
        if not architecture.is_causal:
            raise UnsupportedError("state_size: a model that is not causal keeps no state; leave it out")
        return Score(costs(architecture).state_bytes / BYTES_PER_NUMBER)
