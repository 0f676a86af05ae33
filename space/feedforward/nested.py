"""Nested feed-forward: one set of weights whose leading hidden units are smaller feed-forwards.

    FFN_g(x) = act(x W_1[:, :f/g]) W_2[:f/g, :]        g = 1, 2, 4, 8 (and both halves of a gated W_1)

     W_2  [ ####|##|#|# ]        g = 8: the first column, g = 4: the first two, ...
           f/8 f/8 f/4 f/2

A training step runs the batch once with every g that leaves 8 units or more and takes the mean of the losses;
evaluation, files and latencies have the slice of the config's own `granularity`.

Source: Devvrat et al. 2023, arXiv:2310.07707 (MatFormer).
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..activations import ACTIVATION, ActivationName
from ..choice import FeedForward, FeedForwardChoice, LinearMap, Surroundings, off
from ..errors import InvalidArchitectureError
from ..gene import FF_RATIO, LayerGene
from ..projection import LowRank
from .dense import GATED, check_activation, dense_config, dense_values
from .glu import Glu, GluConfig, gated
from .mlp import Mlp, MlpConfig

DIVISORS = (1, 2, 4, 8)
MIN_SLICE = 8
"""Units of the narrowest slice."""

GRANULARITY = LayerGene(
    "granularity", (1, 2, 4, 8), "Hidden width over that of the deployed slice of a nested feed-forward.",
    least=1, most=8,
)  # fmt: skip


def divisors_of(d_ff: int) -> tuple[int, ...]:
    """
    >>> divisors_of(256), divisors_of(48), divisors_of(6)
    ((1, 2, 4, 8), (1, 2, 4), (1,))
    """
    return tuple(g for g in DIVISORS if g == 1 or (d_ff % g == 0 and d_ff // g >= MIN_SLICE))


class NestedConfig(FeedForwardChoice):
    """Trained at every divisor of `granularities`, deployed at `granularity`."""

    genes: ClassVar[Mapping[str, LayerGene]] = {
        "activation": ACTIVATION,
        "d_ff": FF_RATIO,
        "gated": GATED,
        "granularity": GRANULARITY,
    }

    kind: Literal["nested"] = "nested"
    activation: ActivationName = "gelu"
    d_ff: int = Field(ge=1, le=262_144, description="Hidden width of the whole.")
    gated: bool = off(False, description="A gated feed-forward.")
    granularity: Literal[1, 2, 4, 8] = Field(1, description="Whole width over that of the deployed slice.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        fitting = dense_values(values)
        return {**fitting, "granularity": _at_most(values["granularity"], divisors_of(fitting["d_ff"]))}

    def check(self, at: Surroundings) -> None:
        check_activation("nested", self.activation, gated=self.gated)
        if self.granularity not in self.granularities:
            raise InvalidArchitectureError(
                f"nested: granularity={self.granularity} of d_ff={self.d_ff} leaves a slice of "
                f"{self.d_ff / self.granularity:g} units; it must be whole and at least {MIN_SLICE}"
            )

    @property
    def granularities(self) -> tuple[int, ...]:
        """Every divisor that is trained."""
        return divisors_of(self.d_ff)

    @property
    def whole(self) -> MlpConfig | GluConfig:
        return dense_config(self.activation, self.d_ff, gated=self.gated)

    @property
    def deployed(self) -> MlpConfig | GluConfig:
        """The slice."""
        return dense_config(self.activation, self.d_ff // self.granularity, gated=self.gated)

    def build(self, at: Surroundings) -> "Nested":
        return Nested(self, self.whole.build(at))

    def halved(self) -> "NestedConfig":
        """Where half of the width has no such slice, the narrowest it has."""
        width = max(1, self.d_ff // 2)
        granularity = _at_most(self.granularity, divisors_of(width))
        return self.model_copy(update={"d_ff": width, "granularity": granularity})

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        return self.whole.maps(at)

    def deployed_maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        """In low-rank form the inner widths stay those of the whole."""
        pairs = zip(self.deployed.maps(at), self.whole.maps(at), strict=True)
        return tuple(replace(part, whole=whole) for part, whole in pairs)

    def own_params(self, at: Surroundings) -> int:
        """Of a trainable activation; all slices have the same."""
        return self.whole.own_params(at)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        return self.deployed.activation_size(at, tokens)


def _at_most(granularity: int, legal: tuple[int, ...]) -> int:
    return max(g for g in legal if g <= granularity)


class Nested(FeedForward):
    """Runs a slice: in training that of `set_granularity`, in evaluation its own."""

    def __init__(self, config: NestedConfig, whole: Mlp | Glu) -> None:
        super().__init__()
        self.d_ff, self.granularity = config.d_ff, config.granularity
        self.granularities = config.granularities
        self.parts = 2 if isinstance(whole, Glu) else 1
        self.up = whole.gate_up if isinstance(whole, Glu) else whole.up
        self.activation, self.hidden, self.down = whole.activation, whole.hidden, whole.down
        self.is_gated = self.parts == 2
        self._trained = 1

    def nonlinearities(self) -> tuple[nn.Module, ...]:
        """Every slice passes through the one."""
        return (self.activation,)

    def set_granularity(self, divisor: int) -> None:
        """What the next forward passes in training mode run: this divisor or the next smaller one it has."""
        self._trained = _at_most(divisor, self.granularities)

    @property
    def width(self) -> int:
        """Hidden units that run now."""
        return self.d_ff // (self._trained if self.training else self.granularity)

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        width = self.width
        hidden = _leading(self.up, x, parts=self.parts, rows=width)
        hidden = gated(self.activation, hidden, width) if self.parts == 2 else self.activation(hidden)
        return _leading(self.down, self.hidden(hidden), columns=width)

    def folded(self) -> Mlp | Glu:
        """The slice alone, with copies of its weights: what is deployed."""
        width = self.d_ff // self.granularity
        up = _cut(self.up, parts=self.parts, rows=width)
        activation, down = copy.deepcopy(self.activation), _cut(self.down, columns=width)
        if self.parts == 2:
            return Glu(width, up, activation, down=down).train(self.training)
        return Mlp(up, activation, down=down).train(self.training)


def _part(
    weight: Float[Tensor, "outputs inputs"], parts: int, rows: int | None, columns: int | None
) -> Float[Tensor, "rows columns"]:
    """The leading rows of each of `parts` matrices that stand one below the other."""
    stacked = torch.unflatten(weight, 0, (parts, -1))
    return torch.flatten(stacked[:, :rows, :columns], 0, 1)


def _leading(
    linear: nn.Module, x: Tensor, *, parts: int = 1, rows: int | None = None, columns: int | None = None
) -> Tensor:
    """x times a slice of a linear map."""
    if isinstance(linear, LowRank):
        narrow = torch.split(
            functional.linear(x, linear.down.weight[:, :columns]), list(linear.ranks), dim=-1
        )
        outputs = [
            functional.linear(part, up.get_parameter("weight")[:rows])
            for part, up in zip(narrow, linear.up, strict=True)
        ]
        return torch.cat(outputs, dim=-1)
    return functional.linear(x, _part(linear.get_parameter("weight"), parts, rows, columns))


def _cut(
    linear: nn.Module, *, parts: int = 1, rows: int | None = None, columns: int | None = None
) -> nn.Module:
    """A slice of a linear map as a map of its own."""
    if not isinstance(linear, LowRank):
        return _linear(_part(linear.get_parameter("weight"), parts, rows, columns))
    narrow = copy.deepcopy(linear)
    narrow.up = nn.ModuleList(_linear(up.get_parameter("weight")[:rows]) for up in linear.up)
    narrow.add_module("down", _linear(linear.down.weight[:, :columns]))
    return narrow


def _linear(weight: Float[Tensor, "outputs inputs"]) -> nn.Linear:
    """Made without drawing numbers from torch's global generator."""
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    return linear
