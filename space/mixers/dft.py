"""Fourier mixing: the real part of the orthonormal Fourier transform over tokens and channels.

    y = Re(F_n v F_h) = C_n v C_h - S_n v S_h
    C_k[a, t] = cos(2 pi a t / k) / sqrt(k)      S_k[a, t] = sin(2 pi a t / k) / sqrt(k)

v is x (layer form, h = d_model) or x W_v per head of width h, followed by W_o (head form). Source: Lee-Thorp
et al. 2021, arXiv:2105.03824 (FNet), there without scale; per head: Tuli et al. 2022, arXiv:2205.11656
(FlexiBERT). Up to 512 tokens, and in an exported file at any length, as matrix products: ONNX Runtime's
own transform is not in the exporter's reach. Above that as a fast Fourier transform.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..choice import Surroundings
from ..mixing.transforms import (
    MATRIX_TOKENS,
    Transform,
    TransformChoice,
    TransformMatrix,
    angles,
    shared_matrix,
    token_places,
)


class DftConfig(TransformChoice):
    """Both ways only; no decoding."""

    kind: Literal["dft"] = "dft"

    def build(self, at: Surroundings) -> "Dft":
        self.check(at)
        return Dft(self, at)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Two matrix products over channels and two over tokens; above 512 tokens half the operations of
        a fast transform, 5 n d (log2 n + log2 h)."""
        n, d, h = tokens, at.d_model, self.transform_width(at)
        if n <= MATRIX_TOKENS:
            return 2 * n * d * (h + n)
        return math.ceil(2.5 * n * d * (math.log2(n) + math.log2(h)))

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Values, a product over channels and one over tokens; beside them a matrix that is no constant."""
        stream = 3 * tokens * at.d_model
        return stream + (self.computed_numbers(at, tokens) if tokens <= MATRIX_TOKENS else 0)


class Dft(Transform):
    """Cosine part first, so that at most three arrays of the size of the input are alive."""

    def __init__(self, config: DftConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.token_cosine = shared_matrix(at, DftCosine, token_places(at), "tokens")
        self.token_sine = shared_matrix(at, DftSine, token_places(at), "tokens")
        self.channel_cosine = shared_matrix(at, DftCosine, self.width, "channels")
        self.channel_sine = shared_matrix(at, DftSine, self.width, "channels")

    def transformed(
        self, v: Float[Tensor, "batch tokens heads width"]
    ) -> Float[Tensor, "batch tokens heads width"]:
        if not torch.onnx.is_in_onnx_export() and v.shape[1] > MATRIX_TOKENS:
            spectrum: Tensor = torch.fft.fft2(v, dim=(1, 3), norm="ortho")
            return spectrum.real
        y = self.token_cosine.over_tokens(v) @ (v @ self.channel_cosine.over_channels(v)).flatten(2)
        z = self.token_sine.over_tokens(v) @ (v @ self.channel_sine.over_channels(v)).flatten(2)
        return self._heads(y - z)


class DftCosine(TransformMatrix):
    """C_k."""

    @staticmethod
    def made(places: int) -> Float[Tensor, "places places"]:
        place = torch.arange(places)
        root: float = max(1, places) ** 0.5
        return angles(place[:, None] * place, places).cos() / root

    @staticmethod
    def exported(length: Tensor, table: Tensor) -> Tensor:
        chosen: Tensor = _GRAPHS.cosine(length, table)
        return chosen


class DftSine(TransformMatrix):
    """S_k."""

    @staticmethod
    def made(places: int) -> Float[Tensor, "places places"]:
        place = torch.arange(places)
        root: float = max(1, places) ** 0.5
        return angles(place[:, None] * place, places).sin() / root

    @staticmethod
    def exported(length: Tensor, table: Tensor) -> Tensor:
        chosen: Tensor = _GRAPHS.sine(length, table)
        return chosen


# The same for an exported graph, which has to choose at run time: TorchScript becomes ONNX's If.
_GRAPHS = torch.jit.CompilationUnit("""
def angles(n: int, table: Tensor) -> Tensor:
    place = torch.arange(n, device=table.device)
    turns = torch.remainder(place[:, None] * place[None, :], n)
    return turns.to(torch.float32) * (6.283185307179586 / n)

def cosine(length: Tensor, table: Tensor) -> Tensor:
    if bool(length == table.size(0)):
        return table
    n = int(length)
    return torch.cos(angles(n, table)) / (n ** 0.5)

def sine(length: Tensor, table: Tensor) -> Tensor:
    if bool(length == table.size(0)):
        return table
    n = int(length)
    return torch.sin(angles(n, table)) / (n ** 0.5)
""")


def dft_reference(v: Float[Tensor, "batch tokens heads width"]) -> Float[Tensor, "batch tokens heads width"]:
    """The definition: every output as its sum over all inputs."""
    n, h = v.shape[1], v.shape[3]
    rows = []
    for k in range(n):
        columns = []
        for c in range(h):
            turns = k * _places(n)[:, None] / n + c * _places(h) / h
            columns.append(torch.einsum("bihv,iv->bh", v, (2.0 * math.pi * turns).cos().to(v)))
        rows.append(torch.stack(columns, dim=-1))
    return torch.stack(rows, dim=1) / math.sqrt(n * h)


def _places(count: int) -> Float[Tensor, " count"]:
    return torch.arange(count, dtype=torch.float64)
