"""Cosine mixing: the orthonormal cosine transform (DCT-II) over tokens and channels.

    y = C_n v C_h^T        C_k[a, t] = sqrt(2 / k) cos(pi (2 t + 1) a / (2 k)), row 0 divided by sqrt(2)

v is x (layer form, h = d_model) or x W_v per head of width h, followed by W_o (head form). Source: Tuli et
al. 2022, arXiv:2205.11656 (FlexiBERT); the transform: Ahmed et al. 1974 (IEEE Transactions on Computers).
As matrix products at any length.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..choice import Surroundings
from ..mixing.transforms import (
    Transform,
    TransformChoice,
    TransformMatrix,
    angles,
    shared_matrix,
    token_places,
)


class DctConfig(TransformChoice):
    """Both ways only; no decoding."""

    kind: Literal["dct"] = "dct"

    def build(self, at: Surroundings) -> "Dct":
        self.check(at)
        return Dct(self, at)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """One matrix product over channels and one over tokens."""
        return tokens * at.d_model * (self.transform_width(at) + tokens)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """A product over channels and one over tokens; beside them a matrix that is no constant."""
        return 2 * tokens * at.d_model + self.computed_numbers(at, tokens)


class Dct(Transform):
    """Half the work of `dft`: the transform is real."""

    def __init__(self, config: DctConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.tokens = shared_matrix(at, DctMatrix, token_places(at), "tokens")
        self.channels = shared_matrix(at, DctMatrix, self.width, "channels")

    def transformed(
        self, v: Float[Tensor, "batch tokens heads width"]
    ) -> Float[Tensor, "batch tokens heads width"]:
        y = self.tokens.over_tokens(v) @ (v @ self.channels.over_channels(v).T).flatten(2)
        return self._heads(y)


class DctMatrix(TransformMatrix):
    """C_k; its inverse is its transpose."""

    @staticmethod
    def made(places: int) -> Float[Tensor, "places places"]:
        place = torch.arange(places)
        # a power, not math.sqrt: that would make a constant of the number of tokens in an exported program
        scale: float = (2.0 / max(1, places)) ** 0.5
        matrix = angles(place[:, None] * (2 * place + 1), 4 * places).cos() * scale
        matrix[:1] *= math.sqrt(0.5)
        return matrix

    @staticmethod
    def exported(length: Tensor, table: Tensor) -> Tensor:
        chosen: Tensor = _GRAPHS.dct(length, table)
        return chosen


# The same for an exported graph, which has to choose at run time: TorchScript becomes ONNX's If.
_GRAPHS = torch.jit.CompilationUnit("""
def dct(length: Tensor, table: Tensor) -> Tensor:
    if bool(length == table.size(0)):
        return table
    n = int(length)
    place = torch.arange(n, device=table.device)
    turns = torch.remainder(place[:, None] * (2 * place[None, :] + 1), 4 * n)
    cosines = torch.cos(turns.to(torch.float32) * (6.283185307179586 / (4 * n)))
    first = (place[:, None] == 0).to(torch.float32)
    return cosines * torch.sqrt((2.0 - first) / n)
""")


def dct_reference(v: Float[Tensor, "batch tokens heads width"]) -> Float[Tensor, "batch tokens heads width"]:
    """The definition: every output as its sum over all inputs."""
    n, h = v.shape[1], v.shape[3]
    rows = [
        torch.stack(
            [torch.einsum("bihv,i,v->bh", v, _row(k, n).to(v), _row(c, h).to(v)) for c in range(h)], -1
        )
        for k in range(n)
    ]
    return torch.stack(rows, dim=1)


def _row(k: int, places: int) -> Float[Tensor, " places"]:
    """Row k of C_places."""
    norm = math.sqrt((1.0 if k == 0 else 2.0) / places)
    values = [norm * math.cos(math.pi * (2 * t + 1) * k / (2 * places)) for t in range(places)]
    return torch.tensor(values, dtype=torch.float64)
