"""The base of every choice of the search space: a frozen record with a tag, arithmetic and a builder.

A choice is one file: its config (facts, genes, closed-form costs, builder), its module, its slow reference.
The linear maps of a choice are declared once, by `maps`; parameters and multiply-accumulates follow from
them, in the model's projection form, and `projection.read` and `projection.write` build them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from .gene import LayerGene

Padding = Literal["exact", "masked", "packed"]
State = dict[str, Tensor]
"""What a mixer keeps between decode steps; batch first in every tensor."""


class Choice(BaseModel):
    """Frozen; unknown fields are refused. `kind` is the tag that is stored for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def off(default: Any, **limits: Any) -> Any:
    """A field for an option: at its default it leaves the canonical JSON, so ids outlive new options."""
    return Field(default, exclude_if=lambda value: value == default, **limits)


@dataclass(frozen=True, slots=True)
class LinearMap:
    """One linear map of a layer: `parts` matrices from the same inputs, stored side by side.

    `copies` maps of these sizes exist (experts); every token passes through `active` of them. A map that is
    not `projected` is dense and float32 whatever the model's projection form and the layer's number format.
    `whole`: the map of which this is the leading slice; its inner widths stay.
    """

    inputs: int
    parts: tuple[int, ...]
    copies: int = 1
    active: int = 1
    projected: bool = True
    whole: "LinearMap | None" = None

    def matrices(self, rank_ratio: float) -> tuple[tuple[int, int], ...]:
        """(in, out) of every stored matrix of one copy, in the projection form of this ratio."""
        ranks = self.ranks(rank_ratio)
        if ranks is None:
            return ((self.inputs, sum(self.parts)),)
        return ((self.inputs, sum(ranks)), *zip(ranks, self.parts, strict=True))

    def ranks(self, rank_ratio: float) -> tuple[int, ...] | None:
        """Inner width of each part; None: the dense form, where factors would not be smaller."""
        if self.whole is not None:
            return self.whole.ranks(rank_ratio)
        if rank_ratio >= 1.0 or not self.projected:
            return None
        ranks = tuple(max(1, int(rank_ratio * min(self.inputs, part))) for part in self.parts)
        factored = sum(r * (self.inputs + part) for r, part in zip(ranks, self.parts, strict=True))
        return ranks if factored < self.inputs * sum(self.parts) else None

    def size(self, rank_ratio: float) -> int:
        """Stored numbers of one copy."""
        if rank_ratio >= 1.0 and self.whole is None:
            return self.inputs * sum(self.parts)  # costs of many architectures ask mostly for this
        return sum(inputs * outputs for inputs, outputs in self.matrices(rank_ratio))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a choice may know of the model it is built into."""

    d_model: int
    context_length: int
    """Largest number of tokens the model sees."""
    num_layers: int
    causal: bool
    position: "PositionChoice"
    """The model's position choice; mixers act on the kinds they list in `positions`, ignore the rest."""
    grid: tuple[int, int] | None = None
    """Rows and columns of an image's tokens."""
    rank_ratio: float = 1.0
    """Inner width of low-rank linear maps over their smaller side; 1: dense."""
    shared: dict[str, nn.Module] = field(default_factory=dict, compare=False, repr=False)
    """Modules that several layers hold together, by a name that says all of their settings."""


@runtime_checkable
class Scheduled(Protocol):
    """A module whose function changes over a training."""

    def set_progress(self, fraction: float) -> None:
        """`fraction` of the planned steps is done, 0 to 1."""


@runtime_checkable
class HasAuxiliaryLoss(Protocol):
    """A module whose last forward pass in training mode left a loss to add."""

    auxiliary_loss: Tensor | None


@runtime_checkable
class Granular(Protocol):
    """A module that a training step runs once at every one of its granularities, the losses averaged."""

    granularities: tuple[int, ...]
    """Divisors of its width, ascending from 1."""

    def set_granularity(self, divisor: int) -> None:
        """The next forward passes in training mode run this one, or the next smaller one there is."""


@runtime_checkable
class Foldable(Protocol):
    """A module that inference runs as another one with the same outputs in evaluation mode."""

    def folded(self) -> nn.Module:
        """That module, with weights of its own."""


@runtime_checkable
class PerChannel(Protocol):
    """A norm that in evaluation mode is one factor and one shift per channel."""

    def affine(self) -> tuple[Tensor, Tensor]:
        """Both, [d_model]: y = x factor + shift."""


class Mixer(nn.Module):
    """A token mixer: `forward(x [batch, tokens, d_model], mask [batch, tokens] or None) -> like x`.

    `mask` is True at real tokens. Padded tokens must not change real outputs (`MixerChoice.padding`).
    A decodable mixer also runs token by token:

        state = mixer.init_state(batch_size)
        y_t, state = mixer.step(x_t, state, position)       y_t = forward(x)[:, t]
    """

    probability_points: ClassVar[tuple[str, ...]] = ()
    """Attributes that attention probabilities [..., heads, queries, keys] pass through where they are shown:
    a module of them, or None where nothing changes them. Proxies look there."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        """The state before any token, on the device of the parameters."""
        raise NotImplementedError

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """One token: x [batch, 1, d_model], `position` int64 [] from 0, mask [batch, 1] True where real.

        The given state is left as it is.
        """
        raise NotImplementedError

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """`forward(x, mask)` and the state after its tokens; this form goes token by token."""
        state = self.init_state(x.shape[0], dtype=x.dtype)
        rows = []
        for t in range(x.shape[1]):
            real = None if mask is None else mask[:, t : t + 1]
            y, state = self.step(x[:, t : t + 1], state, torch.tensor(t, device=x.device), real)
            rows.append(y)
        return torch.cat(rows, dim=1), state


class _LayerChoice(Choice):
    """What mixers and feed-forwards have in common."""

    genes: ClassVar[Mapping[str, LayerGene]] = {}
    """Config field -> the gene that decides it."""

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        """Fields as the genes give them, moved to the nearest ones that can stand there."""
        return values

    def check(self, at: Surroundings) -> None:
        """Raises InvalidArchitectureError when no module of this config can stand there."""

    def build(self, at: Surroundings) -> nn.Module:
        raise NotImplementedError

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        """Every linear map over channels."""
        return ()

    def deployed_maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        """The maps that inference needs, where they are fewer than training needs."""
        return self.maps(at)

    def own_params(self, at: Surroundings) -> int:
        """Trainable numbers outside `maps`."""
        return 0

    def params(self, at: Surroundings) -> int:
        """Trainable numbers."""
        maps = sum(m.copies * m.size(at.rank_ratio) for m in self.maps(at))
        return maps + self.own_params(at)

    def idle_params(self, at: Surroundings) -> int:
        """Trainable numbers that one token does not meet in a deployed model."""
        # a map that runs several times over (both ways) is still one map
        met = sum(min(m.active, m.copies) * m.size(at.rank_ratio) for m in self.deployed_maps(at))
        return sum(m.copies * m.size(at.rank_ratio) for m in self.maps(at)) - met

    def map_macs(self, at: Surroundings) -> int:
        """Multiply-accumulates of the linear maps per token."""
        return sum(m.active * m.size(at.rank_ratio) for m in self.deployed_maps(at))


class MixerChoice(_LayerChoice):
    """Config of a token mixer. The facts are class variables; costs are closed forms for one sequence."""

    kind: str = ""
    causal: ClassVar[bool]
    bidirectional: ClassVar[bool]
    decodable: ClassVar[bool] = True
    """Has `init_state` and `step` in its causal form."""
    fixed_length: ClassVar[bool] = False
    """Parameters or constants depend on the context length."""
    padding: ClassVar[Padding]
    positional_by_slot: ClassVar[bool] = False
    """What a token becomes depends on its slot in the batch, so left padding shifts it (block borders)."""
    reads_grid: ClassVar[bool] = False
    """On an image it needs the rows and columns of patches, which a class token is no part of."""
    positions: ClassVar[frozenset[str]]
    """Position kinds that change what the mixer computes."""
    order_aware: ClassVar[bool]
    """Sees order without any position choice."""
    direction_aware: ClassVar[bool] = False
    """Both ways: tells a sequence from its reversal without any position choice."""
    has_probabilities: ClassVar[bool]
    """Has an attention probability matrix."""
    own_nonlinearity: ClassVar[bool] = False
    """May stand without a feed-forward."""

    @property
    def sees_order(self) -> bool:
        """`order_aware` of this config: some options see order where their kind does not."""
        return self.order_aware

    @property
    def sees_direction(self) -> bool:
        """`direction_aware` of this config."""
        return self.direction_aware

    def canonical(self, at: Surroundings) -> "MixerChoice":
        """The one description of the same function there."""
        return self

    def build(self, at: Surroundings) -> Mixer:
        raise NotImplementedError

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Multiply-accumulates outside `maps` over `tokens` tokens, as the module computes them."""
        raise NotImplementedError

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """The same with pairs that a causal mask forbids left out, whatever the module computes."""
        return self.mixing_macs(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        """Multiply-accumulates outside `maps` of one more token after `tokens` tokens."""
        raise NotImplementedError

    def macs(self, at: Surroundings, tokens: int) -> int:
        """Multiply-accumulates of one forward pass over `tokens` tokens, as the module computes them."""
        return tokens * self.map_macs(at) + self.mixing_macs(at, tokens)

    def macs_causal(self, at: Surroundings, tokens: int) -> int:
        """The same with pairs that a causal mask forbids left out."""
        return tokens * self.map_macs(at) + self.mixing_macs_causal(at, tokens)

    def macs_decode(self, at: Surroundings, tokens: int) -> int:
        """Multiply-accumulates of one more token after `tokens` tokens."""
        return self.map_macs(at) + self.mixing_macs_decode(at, tokens)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """Numbers kept per sequence between decode steps after `tokens` tokens."""
        raise NotImplementedError

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Peak of live numbers for one sequence while the mixer runs, without the residual stream.

        A number lives from the operator that makes it to the last that reads it, input and output included.
        Elementwise operators and the softmax write over an input that nobody reads after them; views are
        free. Exact in dense projection form.
        """
        raise NotImplementedError

    def reach(self, at: Surroundings) -> int:
        """How many positions to one side one layer sees, at most the context length."""
        return at.context_length

    def seen(self, at: Surroundings, place: int) -> tuple[int, int]:
        """First and last place of a full context that the token at `place` sees through one layer."""
        reach = self.reach(at)
        last = place if at.causal else min(at.context_length - 1, place + reach)
        return max(0, place - reach), last


class FeedForward(nn.Module):
    """A channel mixer: `forward(x [batch, tokens, d_model], mask or None) -> like x`, token by token.

    `hidden` is an identity through which the hidden layer passes, where proxies read it.
    """

    hidden: nn.Module
    is_gated: bool = False
    """The hidden layer is a product of two branches."""

    def nonlinearities(self) -> tuple[nn.Module, ...]:
        """Modules that pre-activations enter, in the order they run; proxies read the sign of what enters."""
        return ()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class FeedForwardChoice(_LayerChoice):
    """Config of a feed-forward (channel mixer)."""

    kind: str = ""
    is_present: ClassVar[bool] = True
    """False: a layer without feed-forward."""
    width_factor: ClassVar[Fraction] = Fraction(1)
    """Hidden width over that of an ordinary feed-forward with as many parameters."""

    def canonical(self, at: Surroundings) -> "FeedForwardChoice":
        """The one description of the same function there."""
        return self

    def build(self, at: Surroundings) -> FeedForward:
        raise NotImplementedError

    def halved(self) -> "FeedForwardChoice":
        """One of the two feed-forwards of a Macaron layer that has this one's parameters."""
        raise NotImplementedError

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Multiply-accumulates outside `maps` over `tokens` tokens."""
        return 0

    def macs(self, at: Surroundings, tokens: int) -> int:
        """Multiply-accumulates of one forward pass over `tokens` tokens."""
        return tokens * self.map_macs(at) + self.mixing_macs(at, tokens)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Peak of live numbers for one sequence, counted as in `MixerChoice.activation_size`."""
        raise NotImplementedError


class Norm(nn.Module):
    """A normalisation over channels: `forward(x [..., d_model], mask [batch, tokens] or None) -> like x`.

    Only norms with statistics over tokens read the mask.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def after_sum(self, x: Tensor, branch: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The normed sum of a residual stream and a branch, and the sum: where both are one pass, a norm
        says so by a form of its own."""
        total = x + branch
        y: Tensor = self(total, mask)
        return y, total


class NormChoice(Choice):
    """Config of a normalisation over the channel axis."""

    kind: str = ""
    causal: ClassVar[bool] = True
    """May stand in a causal model."""
    folds: ClassVar[bool] = False
    """Its module is `PerChannel`, so that deployment takes it away where it can."""
    least_steps: ClassVar[int] = 0
    """A training of fewer planned steps tells nothing of it."""

    def build(self, d_model: int) -> Norm:
        raise NotImplementedError

    def params(self, d_model: int) -> int:
        """Trainable numbers."""
        raise NotImplementedError


class PositionModule(nn.Module):
    """Adds a position choice to embedded tokens: `forward(x [batch, tokens, d_model], start) -> like x`.

    `start` int64 [] is the position of the first token; None: 0.
    """

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        return x


class PositionChoice(Choice):
    """Config of the model's position choice; what acts in mixers is built there, `learned` adds a table."""

    kind: str = ""
    direction_aware: ClassVar[bool] = False
    """Tells a sequence from its reversal."""
    on_tokens: ClassVar[bool] = False
    """Added to the embedded tokens, so that every layer sees it."""
    reads_mixers: ClassVar[bool] = False
    """`params` depends on the mixers."""

    def build(self, at: Surroundings) -> PositionModule:
        """Module applied to embedded tokens; identity for what acts in mixers."""
        return PositionModule()

    def params(self, at: Surroundings, mixers: tuple[MixerChoice, ...]) -> int:
        """Trainable numbers in the whole model, given the mixers of all its layers."""
        return 0
