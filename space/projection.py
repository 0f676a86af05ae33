"""Linear maps of a layer: dense or as a product of two narrow ones, and how they start.

    dense     y = x W                              W ~ N(0, s^2) cut at two deviations
    low rank  y = (x A) B, A [in, r], B [r, out]   both ~ N(0, (s^2 / r)^(1/2)): A B then has the deviation s
    s = 0.02 for a map that reads the residual stream, 0.02 / sqrt(2 L) for one that writes into it

Matrices fused in one map keep their own rank each; their A stand side by side, and an A B that would not be
smaller stays dense. Source: Radford et al. 2019 (GPT-2, section 2.3) for the residual factor; Cahyawijaya et
al. 2021, arXiv:2108.10808 (Greenformers) for low rank. No biases.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .choice import LinearMap, Surroundings
from .roles import ParameterRole, Role

INIT_STD = 0.02


def start(weight: Tensor, *, std: float = INIT_STD) -> None:
    """Fills in place, from torch's global generator."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class Dense(nn.Linear):
    """One matrix, or several from the same inputs in one; says its own role."""

    def __init__(self, inputs: int, parts: tuple[int, ...], role: Role, *, std: float = INIT_STD) -> None:
        super().__init__(inputs, sum(parts), bias=False)
        self._role = ParameterRole(role, parts=parts if len(parts) > 1 else ())
        start(self.weight, std=std)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"weight": self._role}


class LowRank(nn.Module):
    """Each part a product of two narrow matrices."""

    def __init__(
        self, inputs: int, parts: tuple[int, ...], ranks: tuple[int, ...], role: Role, *, std: float
    ) -> None:
        super().__init__()
        self.ranks = ranks
        self.down = Dense(inputs, ranks, role)
        self.up = nn.ModuleList(Dense(r, (part,), role) for r, part in zip(ranks, parts, strict=True))
        with torch.no_grad():
            for weight, up in zip(torch.split(self.down.weight, list(ranks)), self.up, strict=True):
                factor = (std**2 / weight.shape[0]) ** 0.25
                start(weight, std=factor)
                start(up.get_parameter("weight"), std=factor)

    @classmethod
    def from_dense(cls, dense: Dense, ranks: tuple[int, ...]) -> "LowRank":
        """The nearest product of these ranks to each part of a trained map: A = U S^(1/2), B = S^(1/2) V^T.

        Exact where a rank is the smaller side of its part.
        """
        own = dense.parameter_roles()["weight"]
        parts = own.parts or (dense.out_features,)
        made = cls(dense.in_features, parts, ranks, own.role, std=INIT_STD).to(dense.weight)
        downs = []
        with torch.no_grad():
            for part, rank, up in zip(torch.split(dense.weight, list(parts)), ranks, made.up, strict=True):
                u, s, v = torch.linalg.svd(part.double(), full_matrices=False)
                root = s[:rank].sqrt()
                up.get_parameter("weight").copy_(u[:, :rank] * root)
                downs.append(root[:, None] * v[:rank])
            made.down.weight.copy_(torch.cat(downs))
        return made

    def forward(self, x: Float[Tensor, "*axes inputs"]) -> Float[Tensor, "*axes outputs"]:
        narrow = self.down(x).split(self.ranks, dim=-1)
        outputs = [up(part) for up, part in zip(self.up, narrow, strict=True)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


def read(
    at: Surroundings, parts: int | tuple[int, ...], role: Role, *, inputs: int | None = None
) -> nn.Module:
    """A map that reads the residual stream (or `inputs` channels), in the model's projection form.

    It has to be declared in the choice's `maps` with the same sizes.
    """
    return _build(at, inputs or at.d_model, parts, role, INIT_STD)


def write(at: Surroundings, inputs: int, role: Role, *, branches: int = 2) -> nn.Module:
    """A map from `inputs` channels into the residual stream, one of `branches` per layer."""
    return _build(at, inputs, at.d_model, role, INIT_STD / math.sqrt(branches * at.num_layers))


def _build(at: Surroundings, inputs: int, parts: int | tuple[int, ...], role: Role, std: float) -> nn.Module:
    widths = (parts,) if isinstance(parts, int) else parts
    ranks = LinearMap(inputs, widths).ranks(at.rank_ratio)
    if ranks is None:
        return Dense(inputs, widths, role, std=std)
    return LowRank(inputs, widths, ranks, role, std=std)


def linear(inputs: int, outputs: int, role: Role) -> Dense:
    """A dense map whatever the model's projection form: embedding and head."""
    return Dense(inputs, (outputs,), role)


def low_rank_reference(
    x: Float[Tensor, "*axes inputs"], pairs: tuple[tuple[Tensor, Tensor], ...]
) -> Float[Tensor, "*axes outputs"]:
    """The definition: for every part its full matrix, multiplied out; pairs (A, B) as stored."""
    return torch.cat([x @ (b @ a).T for a, b in pairs], dim=-1)
