"""All trainable parameters.

    S = trainable numbers of the whole model, tied weights once

The baseline every other proxy has to beat. `active` beside it leaves out the experts a token does not meet.
Number formats do not change it. Source of the comparison: Javaheripi et al. 2022, arXiv:2203.02094.
"""

from space.architecture import Architecture
from space.costs import costs

from ..proxy import Score, StaticProxy


class ParamsTotal(StaticProxy):
    id = "params_total"
    version = 1
    direction = "max"
    summary = "trainable parameters of the whole model"

    def value(self, architecture: Architecture) -> Score:
        found = costs(architecture)
        return Score(float(found.params), {"active": float(found.active_params)})
