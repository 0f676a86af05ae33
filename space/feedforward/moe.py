"""Mixture of experts: every token goes through the k of E feed-forwards that a router chooses for it.

    p = softmax(x W_r)                              in float32 whatever the number format
    y = sum over e in top-k of w_e FFN_e(x)         w = p for k = 1, else p over its sum in top-k

While training, an expert takes at most ceil(1.25 k T / E) of the T real tokens of a batch, the first ones;
the others pass by it, through the residual stream alone. Evaluation drops nothing. What is added to the loss:

    0.01 E sum_e load_e mean(p_e),    load_e the share of the k T choices that fell on e, before any drop

Source: Fedus et al. 2021, arXiv:2101.03961 (Switch: k = 1, capacity, balance); Lepikhin et al. 2020,
arXiv:2006.16668 (GShard: k = 2). Order of capacity and no drop at evaluation: ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..activations import ACTIVATION, ActivationName
from ..choice import FeedForward, FeedForwardChoice, LinearMap, Surroundings, off
from ..errors import InvalidArchitectureError
from ..gene import FF_RATIO, LayerGene
from ..kernels.dispatch import OBSERVED, fused
from ..projection import Dense
from .dense import GATED, check_activation, dense_config, dense_values
from .glu import Glu, GluConfig, gated
from .mlp import Mlp, MlpConfig

CAPACITY = 1.25
"""Tokens an expert takes in training, over its fair share."""

BALANCE = 0.01
"""Weight of the balance loss, which is this under equal loads."""

NUM_EXPERTS = LayerGene("experts", (4,), "Experts of a mixture.", least=2, most=8)
TOP_K = LayerGene("experts_per_token", (1,), "Experts that each token goes through.", least=1, most=2)


class MoeConfig(FeedForwardChoice):
    """`num_experts` feed-forwards of hidden width `d_ff` each."""

    genes: ClassVar[Mapping[str, LayerGene]] = {
        "activation": ACTIVATION,
        "d_ff": FF_RATIO,
        "gated": GATED,
        "num_experts": NUM_EXPERTS,
        "top_k": TOP_K,
    }

    kind: Literal["moe"] = "moe"
    activation: ActivationName = "gelu"
    d_ff: int = Field(ge=1, le=262_144, description="Hidden width of one expert.")
    gated: bool = off(False, description="Experts are gated feed-forwards.")
    num_experts: int = Field(4, ge=1, le=64)
    top_k: int = Field(1, ge=1, le=8, description="Experts per token.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        fitting = dense_values(values)
        return {**fitting, "top_k": min(values["top_k"], values["num_experts"])}

    def check(self, at: Surroundings) -> None:
        check_activation("moe", self.activation, gated=self.gated)
        if self.top_k > self.num_experts:
            raise InvalidArchitectureError(
                f"moe: top_k={self.top_k} is more than num_experts={self.num_experts}; choose at most that"
            )

    def canonical(self, at: Surroundings) -> FeedForwardChoice:
        """One expert is a dense feed-forward."""
        return self.expert if self.num_experts == 1 else self

    @property
    def expert(self) -> MlpConfig | GluConfig:
        return dense_config(self.activation, self.d_ff, gated=self.gated)

    def build(self, at: Surroundings) -> "Moe":
        return Moe(self, at)

    def halved(self) -> "MoeConfig":
        return self.model_copy(update={"d_ff": max(1, self.d_ff // 2)})

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        router = LinearMap(at.d_model, (self.num_experts,), projected=False)
        experts = (replace(m, copies=self.num_experts, active=self.top_k) for m in self.expert.maps(at))
        return (router, *experts)

    def own_params(self, at: Surroundings) -> int:
        """Of trainable activations, every expert its own."""
        return self.num_experts * self.expert.own_params(at)

    def idle_params(self, at: Surroundings) -> int:
        """The other experts."""
        return super().idle_params(at) + (self.num_experts - self.top_k) * self.expert.own_params(at)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """When all tokens choose the same experts, which is the most there can be.

        Input, choices and the outputs so far beside one expert; later the outputs by expert and by token.
        """
        choices = 3 * self.top_k
        routing = at.d_model + self.num_experts
        experts = at.d_model * self.top_k + choices
        outputs = 2 * self.top_k * at.d_model + choices
        running = tokens * experts + self.expert.activation_size(at, tokens)
        return max(tokens * routing, running, tokens * outputs)


class Router(Dense):
    """Choices depend on small differences: it stays float32 whatever the number format of its layer."""

    keeps_float = True


class Moe(FeedForward):
    """The choices of a batch are sorted by expert, each expert runs once on its tokens, all are put back.

    `hidden` is one identity that all experts pass through: its rows are those of every (token, expert).
    `auxiliary_loss` adds up while the module is applied several times (shared layers); the model clears it.
    """

    def __init__(self, config: MoeConfig, at: Surroundings) -> None:
        super().__init__()
        self.num_experts, self.top_k = config.num_experts, config.top_k
        self.router = Router(at.d_model, (config.num_experts,), "ffn.gate")
        experts = [config.expert.build(at) for _ in range(config.num_experts)]
        self.hidden = nn.Identity()
        for expert in experts:
            expert.hidden = self.hidden
        self.experts = nn.ModuleList(experts)
        self.is_gated = config.gated
        self.auxiliary_loss: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy leaves the graph of the last training step behind, which torch cannot copy."""
        return {**self.__dict__, "auxiliary_loss": None}

    def nonlinearities(self) -> tuple[nn.Module, ...]:
        """Those of all experts; a token enters only those of its own."""
        experts = (expert for expert in self.experts if isinstance(expert, FeedForward))
        return tuple(inner for expert in experts for inner in expert.nonlinearities())

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        rows = x.reshape(-1, x.shape[-1])
        probabilities = self._probabilities(rows)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)
        if self.top_k > 1:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if self.training:
            real = torch.ones_like(chosen[:, 0], dtype=torch.bool) if mask is None else mask.reshape(-1)
            loss = balance_loss(probabilities, chosen, real)
            self.auxiliary_loss = loss if self.auxiliary_loss is None else self.auxiliary_loss + loss
            weights = weights * fits(chosen, real, self.num_experts)
        else:
            self.auxiliary_loss = None
            weights = weights if mask is None else weights * mask.reshape(-1, 1)
        y = self._routed(rows, chosen) * weights[..., None].to(x.dtype)
        return y.sum(dim=1).reshape(x.shape)

    def _probabilities(self, rows: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows experts"]:
        wide = torch.promote_types(rows.dtype, torch.float32)
        return torch.softmax(functional.linear(rows.to(wide), self.router.weight.to(wide)), dim=-1)

    def _routed(
        self, rows: Float[Tensor, "rows d_model"], chosen: Int[Tensor, "rows k"]
    ) -> Float[Tensor, "rows k d_model"]:
        """The output of every chosen expert for its token. ONNX Runtime runs this form too.

        On one thread there, 4 experts, d_model 64, d_ff 256, 128 tokens, k = 1: 99 us; every expert on every
        token 256 us (AMD EPYC, 2026-11-22).
        """
        flat = chosen.reshape(-1)
        if (run := fused("expert_linear", rows, unless=lambda: self._unfused(rows))) is not None:
            return self._grouped(rows, flat, run).reshape(-1, self.top_k, rows.shape[1])
        choices = [(flat == expert).nonzero()[:, 0] for expert in range(self.num_experts)]
        outputs = [
            expert(rows.index_select(0, mine if self.top_k == 1 else mine // self.top_k))
            for expert, mine in zip(self.experts, choices, strict=True)
        ]
        order = torch.cat(choices)
        place = torch.zeros_like(order).scatter(0, order, torch.arange(order.shape[0], device=order.device))
        by_choice = torch.cat(outputs).index_select(0, place)
        return by_choice.reshape(-1, self.top_k, rows.shape[1])

    def _unfused(self, rows: Float[Tensor, "rows d_model"]) -> str | None:
        """Why the experts do not run in one launch for each of their maps."""
        maps = [one for expert in self.experts for one in _maps(expert)]
        if not all(isinstance(one, nn.Linear) for one in maps):
            return "maps of experts that are no dense matrices"
        if any(one.get_parameter("weight").dtype != rows.dtype for one in maps):
            return "maps of experts in another type than the tokens"
        if any(list(inner.parameters()) for inner in self.nonlinearities()):
            return "activations with weights of their own"
        is_watched = any(inner._forward_hooks for inner in self.nonlinearities())
        return OBSERVED if is_watched else None

    def _grouped(
        self, rows: Float[Tensor, "rows d_model"], flat: Int[Tensor, " choices"], run: Callable[..., Tensor]
    ) -> Float[Tensor, "choices d_model"]:
        """The choices sorted by expert, all experts at once; how many each has stays on the device."""
        order = torch.argsort(flat, stable=True)
        experts = torch.arange(self.num_experts, device=flat.device)
        ends = (flat[:, None] == experts).sum(dim=0).cumsum(0)
        first = self.experts[0]
        hidden = run(rows.index_select(0, order // self.top_k), self._stacked(0), ends)
        if isinstance(first, Glu):
            hidden = gated(first.activation, hidden, first.d_ff)
        else:
            assert isinstance(first, Mlp)
            hidden = first.activation(hidden)
        for level in range(1, len(_maps(first)) - 1):
            hidden = first.activation(run(hidden, self._stacked(level), ends))
        y = run(self.hidden(hidden), self._stacked(-1), ends)
        return y.index_select(0, torch.argsort(order))

    def _stacked(self, level: int) -> Float[Tensor, "experts outputs inputs"]:
        """The weights of one map of every expert."""
        return torch.stack([_maps(expert)[level].get_parameter("weight") for expert in self.experts])


def _maps(expert: nn.Module) -> list[nn.Module]:
    """Those of a dense feed-forward, from the first to the last."""
    if isinstance(expert, Glu):
        return [expert.gate_up, expert.down]
    assert isinstance(expert, Mlp)
    return [expert.up, *list(expert.deeper)[::2], expert.down]


def balance_loss(
    probabilities: Float[Tensor, "rows experts"], chosen: Int[Tensor, "rows k"], real: Bool[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """Smallest when all experts are chosen equally often; 0 for a batch of padding alone."""
    num_experts = probabilities.shape[1]
    there = real.to(probabilities.dtype)
    count = there.sum().clamp_min(1.0)
    mean = (probabilities * there[:, None]).sum(dim=0) / count
    load = loads(chosen, real, num_experts).to(mean.dtype) / (count * chosen.shape[1])
    return BALANCE * num_experts * (load * mean).sum()


def loads(
    chosen: Int[Tensor, "rows k"], real: Bool[Tensor, " rows"], num_experts: int
) -> Int[Tensor, " experts"]:
    """How often the real tokens chose each expert; the sum is k times their number."""
    return torch.bincount(chosen[real].flatten(), minlength=num_experts)


def fits(
    chosen: Int[Tensor, "rows k"], real: Bool[Tensor, " rows"], num_experts: int
) -> Bool[Tensor, "rows k"]:
    """Which choices of real tokens their expert has room for, token by token in the order of the batch."""
    k = chosen.shape[1]
    capacity = math.ceil(CAPACITY * k * int(real.sum()) / num_experts)
    flat, there = chosen.reshape(-1), real.repeat_interleave(k)
    taken = functional.one_hot(flat, num_experts) * there[:, None]
    turn = taken.cumsum(dim=0).gather(1, flat[:, None])[:, 0]
    return ((turn <= capacity) & there).reshape(chosen.shape)


def moe_reference(
    x: Float[Tensor, "batch tokens d_model"],
    router: Float[Tensor, "experts d_model"],
    experts: Sequence[nn.Module],
    k: int,
    *,
    capacity: float | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition, token by token and expert by expert; padded tokens give 0. None: no expert is full."""
    num_experts, room = len(experts), math.inf
    real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    if capacity is not None:
        room = math.ceil(capacity * k * int(real.sum()) / num_experts)
    used, rows = [0] * num_experts, []
    for token, there in zip(x.flatten(0, 1), real.flatten(), strict=True):
        y = torch.zeros_like(token)
        p = torch.softmax(router @ token, dim=0)
        best = sorted(range(num_experts), key=lambda e: -float(p[e].detach()))[:k]
        total = torch.stack([p[e] for e in best]).sum() if k > 1 else torch.ones_like(p[0])
        for e in best if there else ():
            used[e] += 1
            if used[e] <= room:
                y = y + p[e] / total * experts[e](token[None])[0]
        rows.append(y)
    return torch.stack(rows).reshape(x.shape)
