"""The base of every choice of the search space: a frozen record with a tag, arithmetic and a builder."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

Padding = Literal["exact", "masked", "packed"]


class Choice(BaseModel):
    """Frozen; unknown fields are refused. `kind` is the tag that is stored for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a choice may know of the model it is built into."""

    d_model: int
    context_length: int
    """Largest number of tokens the model sees."""
    num_layers: int
    causal: bool
    position: str
    """Tag of the model's position choice; mixers act on `rope` and `alibi`, ignore the rest."""


class Mixer(nn.Module):
    """A token mixer: `forward(x [batch, tokens, d_model], mask [batch, tokens] or None) -> like x`.

    `mask` is True at real tokens. Padded tokens must not change real outputs (`MixerChoice.padding`).
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class MixerChoice(Choice):
    """Config of a token mixer. The facts are class variables; costs are closed forms for one sequence."""

    causal: ClassVar[bool]
    bidirectional: ClassVar[bool]
    padding: ClassVar[Padding]
    positions: ClassVar[frozenset[str]]
    """Position kinds that change what the mixer computes (of `rope`, `alibi`)."""
    order_aware: ClassVar[bool]
    """Sees order without any position choice."""
    has_probabilities: ClassVar[bool]
    """Has an attention probability matrix."""
    own_nonlinearity: ClassVar[bool] = False
    """May stand without a feed-forward."""

    def check(self, d_model: int) -> None:
        """Raises InvalidArchitectureError when the mixer cannot have this width."""

    def build(self, surroundings: Surroundings) -> Mixer:
        raise NotImplementedError

    def matrices(self, d_model: int) -> tuple[tuple[int, int], ...]:
        """(in, out) of every linear map: what runs in the layer's number format."""
        return ()

    def params(self, d_model: int) -> int:
        """Trainable numbers."""
        raise NotImplementedError

    def macs(self, d_model: int, tokens: int, *, causal: bool) -> int:
        """Multiply-accumulates of one forward pass over `tokens` tokens, as the module computes them."""
        raise NotImplementedError

    def macs_causal(self, d_model: int, tokens: int) -> int:
        """The same with pairs that a causal mask forbids left out, whatever the module computes."""
        return self.macs(d_model, tokens, causal=True)

    def state_size(self, d_model: int, tokens: int) -> int:
        """Numbers kept per sequence between decode steps after `tokens` tokens."""
        raise NotImplementedError

    def activation_size(self, d_model: int, tokens: int, *, causal: bool) -> int:
        """Peak of live numbers for one sequence while the mixer runs, without the residual stream.

        A number lives from the operator that makes it to the last that reads it, input and output included.
        Elementwise operators and the softmax write over an input that nobody reads after them; views are
        free.
        """
        raise NotImplementedError

    def reach(self, context_length: int, *, causal: bool) -> int:
        """How many positions to one side one layer sees, at most `context_length`."""
        return context_length


class FeedForwardChoice(Choice):
    """Config of a feed-forward (channel mixer)."""

    def build(self, surroundings: Surroundings) -> nn.Module:
        raise NotImplementedError

    def matrices(self, d_model: int) -> tuple[tuple[int, int], ...]:
        """(in, out) of every linear map: what runs in the layer's number format."""
        return ()

    def params(self, d_model: int) -> int:
        raise NotImplementedError

    def macs(self, d_model: int, tokens: int) -> int:
        raise NotImplementedError

    def activation_size(self, d_model: int, tokens: int) -> int:
        """Peak of live numbers for one sequence, counted as in `MixerChoice.activation_size`."""
        raise NotImplementedError


class NormChoice(Choice):
    """Config of a normalisation over the channel axis."""

    def build(self, d_model: int) -> nn.Module:
        raise NotImplementedError

    def params(self, d_model: int) -> int:
        raise NotImplementedError


class PositionChoice(Choice):
    """Config of the model's position choice; what acts in mixers is built there, `learned` adds a table."""

    def build(self, surroundings: Surroundings) -> nn.Module:
        """Module applied to embedded tokens [batch, tokens, d_model]; identity for what acts in mixers."""
        raise NotImplementedError

    def params(self, d_model: int, context_length: int) -> int:
        raise NotImplementedError
