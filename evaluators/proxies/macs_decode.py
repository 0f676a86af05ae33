"""Multiply-accumulates of one more token.

S = MACs of the last token of a full context when the others are in the state, in closed form
"""

from space.architecture import Architecture
from space.costs import costs
from space.errors import UnsupportedError

from ..proxy import Score, StaticProxy


class MacsDecode(StaticProxy):
    id = "macs_decode"
    version = 1
    direction = "max"
    summary = "multiply-accumulates of one more token behind a full context"

    def value(self, architecture: Architecture) -> Score:
        macs = costs(architecture).macs_decode
        if macs == 0:
            raise UnsupportedError("macs_decode: the model does not run token by token; take macs_prefill")
        return Score(float(macs))
