"""The dense feed-forward inside another choice: an expert of a mixture, a slice of a nested one.

It is an `mlp` with one hidden layer, or a `glu` when `gated`; a gated one gets 2/3 of the width.
"""

from fractions import Fraction
from typing import Any, get_args

from ..activations import ActivationName, GateActivation, HiddenActivation
from ..errors import InvalidArchitectureError
from ..gene import LayerGene
from .glu import GluConfig
from .mlp import MlpConfig

GATED = LayerGene("ffn_gated", (False,), "Experts and nested feed-forwards are gated ones.")


def dense_config(activation: ActivationName, d_ff: int, *, gated: bool) -> MlpConfig | GluConfig:
    """Raises pydantic's ValidationError for an activation that does not fit; see `check_activation`."""
    config: type[MlpConfig | GluConfig] = GluConfig if gated else MlpConfig
    return config.model_validate({"activation": activation, "d_ff": d_ff})


def dense_values(values: dict[str, Any]) -> dict[str, Any]:
    """Fields as genes give them -> the activation one that fits, the width that of equal parameters."""
    if not values["gated"]:
        return values
    activation = values["activation"] if values["activation"] in get_args(GateActivation) else "silu"
    d_ff = max(8, 8 * int(Fraction(values["d_ff"], 8) * GluConfig.width_factor + Fraction(1, 2)))
    return {**values, "activation": activation, "d_ff": d_ff}


def check_activation(kind: str, activation: ActivationName, *, gated: bool) -> None:
    """Raises InvalidArchitectureError for an activation that stands only in the other form."""
    legal = get_args(GateActivation if gated else HiddenActivation)
    if activation not in legal:
        form = "a gated" if gated else "an ungated"
        raise InvalidArchitectureError(
            f"{kind}: activation '{activation}' does not fit {form} feed-forward; choose {', '.join(legal)}"
        )
