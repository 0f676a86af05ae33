"""What a block runs: a part of a model alone, over a whole sequence or as one decode step."""

from typing import Literal

import torch
from torch import Tensor, nn

from space.choice import Mixer
from space.model import Block as ModelBlock

Part = Literal["embedding", "mixer", "feed_forward", "head", "empty"]


class Residual(nn.Module):
    """x + factor part(norm(x)), or norm(x + factor part(x)) where the norm stands behind the sum."""

    def __init__(
        self, norm: nn.Module | None, part: nn.Module, *, factor: float = 1.0, is_behind: bool = False
    ) -> None:
        super().__init__()
        self.norm, self.part = norm or nn.Identity(), part
        self.factor, self.is_behind = factor, is_behind

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.part(x if self.is_behind else self.normed(x))
        total = x + (mixed if self.factor == 1.0 else self.factor * mixed)
        return self.normed(total) if self.is_behind else total

    def normed(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y


class Embedded(nn.Module):
    """Tokens embedded, with their positions."""

    def __init__(self, embedding: nn.Module, place: nn.Module) -> None:
        super().__init__()
        self.embedding, self.place = embedding, place

    def forward(self, inputs: Tensor) -> Tensor:
        y: Tensor = self.place(self.embedding(inputs))
        return y


class MixerStep(nn.Module):
    """A mixer with its norm and residual at the last of `tokens` tokens, with the state before it."""

    def __init__(self, residual: Residual, mixer: Mixer, before: Tensor) -> None:
        super().__init__()
        self.residual, self.mixer = residual, mixer
        with torch.inference_mode():
            batch_size, past = before.shape[:2]
            self.state = mixer.prefill(before)[1] if past else mixer.init_state(batch_size)
        self.position = torch.tensor(past)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.residual
        normed = x if residual.is_behind else residual.normed(x)
        total = x + self.mixer.step(normed, self.state, self.position)[0]
        return residual.normed(total) if residual.is_behind else total


class EmbeddedStep(nn.Module):
    """One token embedded at a position."""

    def __init__(self, embedded: Embedded, position: int) -> None:
        super().__init__()
        self.embedded, self.position = embedded, torch.tensor(position)

    def forward(self, token: Tensor) -> Tensor:
        y: Tensor = self.embedded.place(self.embedded.embedding(token), self.position)
        return y


def step_of(part: nn.Module, before: Tensor) -> nn.Module:
    """A part as it runs on one more token after `before` [batch, tokens, d_model]."""
    if isinstance(part, Embedded):
        return EmbeddedStep(part, before.shape[1])
    if isinstance(part, Residual) and isinstance(part.part, Mixer):
        return MixerStep(part, part.part, before)
    return part


def part_of(model: nn.Module, part: Part) -> nn.Module:
    """The part of a model of one layer."""
    block = model.get_submodule("blocks.0")
    assert isinstance(block, ModelBlock)
    is_behind = block.placement == "post"
    match part:
        case "embedding":
            return Embedded(model.get_submodule("embedding"), model.get_submodule("position"))
        case "mixer":
            return Residual(block.mixer_norm, block.mixer, is_behind=is_behind)
        case "feed_forward":
            assert block.feed_forward is not None
            factor = 0.5 if block.residual == "macaron" else 1.0
            return Residual(block.feed_forward_norm, block.feed_forward, factor=factor, is_behind=is_behind)
        case "head":
            return nn.Sequential(model.get_submodule("final_norm"), model.get_submodule("head"))
        case "empty":
            return nn.Identity()
