"""A gated map over channels in the place of a token mixer: nothing passes between tokens.

    y = (act(x W_a) * (x W_b)) W_o        W_a, W_b: d -> f, W_o: f -> d

Source: the reduced transformer block of Activator (Abdullah and Aydin 2024, arXiv:2405.15953); the width
and the axis are ours, `token_glu` is the form over tokens. Some other layer has to mix the tokens.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import build_activation
from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..gene import LayerGene
from ..mixing.gating import MIXER_ACTIVATION, MixerActivation
from ..projection import read, write


class GluOnlyConfig(MixerChoice):
    """Decodes without a state."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "exact"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = False
    own_nonlinearity: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "activation": MIXER_ACTIVATION,
        "expansion": LayerGene(
            "glu_expansion",
            (1,),
            "Hidden width over d_model of a gated map that is a mixer.",
            least=1,
            most=8,
        ),
    }

    kind: Literal["glu_only"] = "glu_only"
    activation: MixerActivation = "gelu"
    expansion: int = Field(1, ge=1, le=8, description="Hidden width over the model width.")

    def build(self, at: Surroundings) -> "GluOnly":
        return GluOnly(self.expansion * at.d_model, self.activation, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        hidden = self.expansion * at.d_model
        return (LinearMap(at.d_model, (hidden, hidden)), LinearMap(hidden, (at.d_model,)))

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """None: the gate is elementwise."""
        return 0

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return 0

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """None: no token sees another."""
        return 0

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input, gate and value; later the product beside the output, which is less."""
        return tokens * at.d_model * (1 + 2 * self.expansion)

    def reach(self, at: Surroundings) -> int:
        return 0


class GluOnly(Mixer):
    """Token by token."""

    def __init__(self, hidden: int, activation: MixerActivation, at: Surroundings) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate_up = read(at, (hidden, hidden), "mixer.in")
        self.activation = build_activation(activation)
        self.out = write(at, hidden, "mixer.out")

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        gate, up = self.gate_up(x).split(self.hidden, dim=-1)
        mixed: Tensor = self.out(self.activation(gate) * up)
        return mixed

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        return {}

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return self.forward(x, mask), {}

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        return self.forward(x, mask), {}


def glu_only_reference(
    x: Float[Tensor, "batch tokens d_model"],
    gate: Float[Tensor, "hidden d_model"],
    up: Float[Tensor, "hidden d_model"],
    out: Float[Tensor, "d_model hidden"],
    activation: nn.Module,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition, one token at a time."""
    rows = [out @ (activation(gate @ token) * (up @ token)) for token in x.flatten(0, 1)]
    return torch.stack(rows).reshape(x.shape)
