"""What turns inputs into tokens, and what turns tokens into logits.

A table of token ids [V, d], or two factors [V, e] and [e, d] of it; both start with the deviation
(s^2 / e)^(1/2) squared, s = 0.02, so that their product has that of the whole table.

Source: Lan et al. 2019, arXiv:1909.11942 (ALBERT, section 3.1) for the factors.
"""

import math
from collections.abc import Callable, Mapping
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.nn import functional

from .architecture import (
    BytesInterface,
    ClassificationHead,
    HeadConfig,
    ImageInterface,
    InterfaceConfig,
    Pooling,
    ValuesInterface,
)
from .errors import InvalidArchitectureError
from .projection import INIT_STD, linear, start
from .roles import ParameterRole


class ByteEmbedding(nn.Module):
    """One vector per token id."""

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))
        start(self.weight)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"weight": ParameterRole("embed")}

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens d_model"]:
        return functional.embedding(tokens, self.weight)

    def logits(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens vocab"]:
        """x W^T, W the table."""
        return functional.linear(x, self.weight)


class FactorisedEmbedding(nn.Module):
    """One narrow vector per token id, then a linear map to the width of the model."""

    def __init__(self, vocab_size: int, width: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, width))
        self.projection = linear(width, d_model, "embed")
        for factor in self.parameters():
            start(factor, std=(INIT_STD**2 / width) ** 0.25)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"weight": ParameterRole("embed")}

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens d_model"]:
        embedded: Tensor = self.projection(functional.embedding(tokens, self.weight))
        return embedded

    def logits(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens vocab"]:
        """(x P^T) T^T, T P the table: the narrow product first, e (d + V) multiplications a token."""
        return functional.linear(x @ self.projection.weight, self.weight)


def factorised_reference(
    factor: Float[Tensor, "vocab width"], widen: Float[Tensor, "d_model width"]
) -> Float[Tensor, "vocab d_model"]:
    """The definition: the table that the two factors of a `FactorisedEmbedding` stand for."""
    return factor @ widen.T


class ValuesEmbedding(nn.Module):
    """A linear map of the channels of each step."""

    def __init__(self, channels: int, d_model: int) -> None:
        super().__init__()
        self.projection = linear(channels, d_model, "embed")

    def forward(
        self, values: Float[Tensor, "batch tokens channels"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        embedded: Tensor = self.projection(values)
        return embedded


class PatchEmbedding(nn.Module):
    """A linear map of each square patch, a convolution whose stride is its width; reading order."""

    def __init__(self, channels: int, patch_size: int, d_model: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(d_model, channels, patch_size, patch_size))
        start(self.weight)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"weight": ParameterRole("embed")}

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        return functional.conv2d(image, self.weight, stride=self.patch_size).flatten(2).transpose(1, 2)


class ClassToken(nn.Module):
    """A trained vector before the tokens of every input.

    Source: Devlin et al. 2018, arXiv:1810.04805 (BERT); of images: Dosovitskiy et al. 2020, arXiv:2010.11929
    (ViT).
    """

    def __init__(self, tokens: nn.Module, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        start(self.weight)
        self.tokens = tokens

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"weight": ParameterRole("embed")}

    def forward(self, inputs: Num[Tensor, "batch ..."]) -> Float[Tensor, "batch longer d_model"]:
        x: Tensor = self.tokens(inputs)
        return torch.cat([self.weight.expand(x.shape[0], 1, -1), x], dim=1)


class LanguageModelHead(nn.Module):
    """Logits at every token."""

    def __init__(self, d_model: int, outputs: int) -> None:
        super().__init__()
        self.projection = linear(d_model, outputs, "head")

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens outputs"]:
        logits: Tensor = self.projection(x)
        return logits


class TiedHead(nn.Module):
    """Logits at every token by the embedding's own weights; holds no parameter, so none is stored twice."""

    def __init__(self, embedding: ByteEmbedding | FactorisedEmbedding) -> None:
        super().__init__()
        # in a tuple: a module attribute would register the weight a second time
        self._embedding = (embedding,)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens outputs"]:
        return self._embedding[0].logits(x)


class FactorisedHead(nn.Module):
    """Logits at every token by copies of the two factors of a table."""

    def __init__(self, embedding: FactorisedEmbedding) -> None:
        super().__init__()
        vocab_size, width = embedding.weight.shape
        self.narrow = linear(embedding.projection.out_features, width, "head")
        self.projection = linear(width, vocab_size, "head")
        self.narrow.weight = nn.Parameter(embedding.projection.weight.detach().T.clone())
        self.projection.weight = nn.Parameter(embedding.weight.detach().clone())

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens outputs"]:
        logits: Tensor = self.projection(self.narrow(x))
        return logits


class ClassifierHead(nn.Module):
    """One vector per input from its real tokens, then one logit per class."""

    def __init__(self, d_model: int, outputs: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        self.projection = linear(d_model, outputs, "head")

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch outputs"]:
        logits: Tensor = self.projection(_POOLINGS[self.pooling](x, mask))
        return logits


def masked_mean(
    x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch d_model"]:
    """Mean over the tokens where `mask` is True; 0 where there are none."""
    if mask is None:
        return x.mean(1)
    real = mask[..., None].to(x.dtype)
    return (x * real).sum(1) / real.sum(1).clamp(min=1.0)


def masked_max(
    x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch d_model"]:
    """Largest value of each channel over the tokens where `mask` is True; 0 where there are none."""
    if mask is None:
        return x.amax(1)
    largest = x.masked_fill(~mask[..., None], -math.inf).amax(1)
    return torch.where(mask.any(1, keepdim=True), largest, 0.0)


def masked_last(
    x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch d_model"]:
    """The last token where `mask` is True; 0 where there are none."""
    if mask is None:
        return x[:, -1]
    place = torch.arange(x.shape[1], device=x.device)
    last = torch.where(mask, place, -1).amax(1)
    chosen = (place == last[:, None])[..., None].to(x.dtype)
    return (x * chosen).sum(1)


def masked_first(
    x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch d_model"]:
    """The token in the first place, a class token; 0 where `mask` is False there."""
    return x[:, 0] if mask is None else torch.where(mask[:, :1], x[:, 0], 0.0)


_POOLINGS: Mapping[Pooling, Callable[[Tensor, Tensor | None], Tensor]] = {
    "mean": masked_mean,
    "max": masked_max,
    "last": masked_last,
    "cls": masked_first,
}


def build_embedding(interface: InterfaceConfig, d_model: int, width: int = 0) -> nn.Module:
    """Module from the inputs to [batch, tokens, d_model]; `width`: of the rows of a factorised table."""
    match interface:
        case BytesInterface() if width:
            return FactorisedEmbedding(interface.vocab_size, width, d_model)
        case BytesInterface():
            return ByteEmbedding(interface.vocab_size, d_model)
        case ValuesInterface():
            return ValuesEmbedding(interface.channels, d_model)
        case ImageInterface():
            return PatchEmbedding(interface.channels, interface.patch_size, d_model)
    assert_never(interface)


def build_head(head: HeadConfig, embedding: nn.Module, *, d_model: int, outputs: int) -> nn.Module:
    """Module from [batch, tokens, d_model] to logits."""
    if isinstance(head, ClassificationHead):
        return ClassifierHead(d_model, outputs, head.pooling)
    if not head.tied:
        return LanguageModelHead(d_model, outputs)
    if not isinstance(embedding, ByteEmbedding | FactorisedEmbedding) or embedding.weight.shape[0] != outputs:
        raise InvalidArchitectureError(
            f"a tied head gives one logit per token id, not outputs={outputs}; "
            "set outputs to vocab_size or tied to false"
        )
    return TiedHead(embedding)
