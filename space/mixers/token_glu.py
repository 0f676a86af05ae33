"""A gated map over tokens: every channel passes through the same small network along the sequence.

    both ways:  y = (act(x^T T_a) * (x^T T_b)) T_o transposed      T_a, T_b: N -> m, T_o: m -> N
    causal:     y_i = t_i * act(sum_j A_ij x_j) * sum_j B_ij x_j,  j <= i

N is the context length; a shorter sequence uses the first rows. Source: the gated map of Activator (Abdullah
and Aydin 2024, arXiv:2405.15953), turned onto the token axis as in Tolstikhin et al. 2021, arXiv:2105.01601
(MLP-Mixer); the causal form is ours. Of A and B only the permitted triangles are stored.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import build_activation
from ..choice import Mixer, MixerChoice, Padding, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import LayerGene
from ..mixing.gating import MIXER_ACTIVATION, MixerActivation
from ..projection import INIT_STD, start
from ..roles import ParameterRole


class TokenGluConfig(MixerChoice):
    """Weights belong to positions; real tokens take the first ones, wherever the padding stands."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    decodable: ClassVar[bool] = False
    fixed_length: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    own_nonlinearity: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "activation": MIXER_ACTIVATION,
        "expansion": LayerGene(
            "token_expansion",
            (1.0,),
            "Hidden width over the context length of a gated map over tokens; 1 in a decoder.",
            least=0.01,
            most=8,
        ),
    }

    kind: Literal["token_glu"] = "token_glu"
    activation: MixerActivation = "gelu"
    expansion: float = Field(1.0, gt=0, le=8, description="Hidden width over the context length.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        return {**values, "expansion": 1.0} if at.causal else values

    def check(self, at: Surroundings) -> None:
        if at.causal and self.expansion != 1.0:
            raise InvalidArchitectureError(
                f"token_glu: expansion={self.expansion:g} in a decoder; the causal form has one hidden place "
                "per token, set expansion to 1"
            )

    def build(self, at: Surroundings) -> "CausalTokenGlu | TokenGlu":
        self.check(at)
        if at.causal:
            return CausalTokenGlu(self.activation, at)
        return TokenGlu(self.hidden(at), self.activation, at)

    def hidden(self, at: Surroundings) -> int:
        """Hidden width along the tokens."""
        return max(1, math.floor(self.expansion * at.context_length + 0.5))

    def own_params(self, at: Surroundings) -> int:
        """T_a, T_b, T_o; causal: two triangles and a diagonal."""
        n = at.context_length
        return n * (n + 1) + n if at.causal else 3 * n * self.hidden(at)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Causal: two full squares; the diagonal is elementwise, left out."""
        if at.causal:
            return 2 * at.d_model * tokens**2
        return 3 * at.d_model * tokens * self.hidden(at)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """The permitted triangles only."""
        return at.d_model * tokens * (tokens + 1)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """None: there is no decoding."""
        return 0

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input, gate and value; causal: input and gate beside two squares, or all three beside one."""
        stream, square = tokens * at.d_model, at.context_length**2
        if at.causal:
            return 2 * stream + square + max(stream, square)
        return stream + 2 * self.hidden(at) * at.d_model


class TokenGlu(Mixer):
    """Both ways. The maps multiply from the left, so that nothing is transposed."""

    def __init__(self, hidden: int, activation: MixerActivation, at: Surroundings) -> None:
        super().__init__()
        n = at.context_length
        self.gate, self.up = (nn.Parameter(torch.empty(hidden, n)) for _ in range(2))
        self.out = nn.Parameter(torch.empty(n, hidden))
        for weight in (self.gate, self.up):
            start(weight)
        start(self.out, std=INIT_STD / math.sqrt(2 * at.num_layers))
        self.activation = build_activation(activation)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        roles = {"gate": ParameterRole("mixer.in"), "up": ParameterRole("mixer.in")}
        return {**roles, "out": ParameterRole("mixer.out")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self.mixed(x) if mask is None else in_front(self.mixed, x, mask)

    def mixed(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens d_model"]:
        """For real tokens only."""
        n = x.shape[1]
        hidden: Tensor = self.activation(self.gate[:, :n] @ x) * (self.up[:, :n] @ x)
        return self.out[:n] @ hidden


class CausalTokenGlu(Mixer):
    """Token i reads row i of A and B. Both triangles lie in one rectangle without a gap:

    A_ij = triangles[i, j]        B_ij = triangles[j, i + 1]        j <= i
    """

    def __init__(self, activation: MixerActivation, at: Surroundings) -> None:
        super().__init__()
        n = at.context_length
        self.triangles = nn.Parameter(torch.empty(n, n + 1))
        self.out = nn.Parameter(torch.empty(n))
        start(self.triangles)
        start(self.out, std=INIT_STD / math.sqrt(2 * at.num_layers))
        self.activation = build_activation(activation)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"triangles": ParameterRole("mixer.in"), "out": ParameterRole("mixer.out")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self.mixed(x) if mask is None else in_front(self.mixed, x, mask)

    def mixed(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens d_model"]:
        """For real tokens only. The squares are made whole, as constants of an exported graph."""
        n = x.shape[1]
        gate, up = self.triangles[:, :-1].tril(), self.triangles[:, 1:].T.tril()
        hidden: Tensor = self.activation(gate[:n, :n] @ x) * (up[:n, :n] @ x)
        return self.out[:n, None] * hidden


def in_front(
    mixed: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch tokens d_model"],
    mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch tokens d_model"]:
    """`mixed` of the real tokens of each sequence moved before its padding, zeros there; moved back."""
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)[..., None].expand_as(x)
    y = mixed((x * mask[..., None].to(x.dtype)).gather(1, order))
    return torch.zeros_like(y).scatter(1, order, y)


def token_glu_reference(
    x: Float[Tensor, "batch tokens d_model"],
    gate: Float[Tensor, "hidden length"],
    up: Float[Tensor, "hidden length"],
    out: Float[Tensor, "length hidden"],
    activation: nn.Module,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition both ways, one channel at a time."""
    n = x.shape[1]
    channels = []
    for c in range(x.shape[2]):
        along = x[:, :, c]
        hidden = activation(along @ gate[:, :n].T) * (along @ up[:, :n].T)
        channels.append(hidden @ out[:n].T)
    return torch.stack(channels, dim=-1)


def causal_token_glu_reference(
    x: Float[Tensor, "batch tokens d_model"],
    triangles: Float[Tensor, "length length_and_one"],
    out: Float[Tensor, " length"],
    activation: nn.Module,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition in a decoder, one token at a time."""
    rows = []
    for i in range(x.shape[1]):
        gate = torch.stack([triangles[i, j] * x[:, j] for j in range(i + 1)]).sum(0)
        up = torch.stack([triangles[j, i + 1] * x[:, j] for j in range(i + 1)]).sum(0)
        rows.append(out[i] * activation(gate) * up)
    return torch.stack(rows, dim=1)
