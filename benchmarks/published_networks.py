"""Networks of published tables in plain torch, with the roles and hook points that proxies read.

They are not in the space: post-norm encoders with feed-forwards of several widths (flexibert), vision
transformers with heads of 64 whatever the width, stages with pooling between them (vit_autoprox), decoders
with a number of heads and a hidden width per layer (lts). Weights start N(0, 0.02^2), biases 0, gains 1.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluators.passes import FeedForwardPoint, Points
from space.roles import ParameterRole


@dataclass(frozen=True)
class Layer:
    """One block; `hidden` widths one after the other, `pooled` in front of it."""

    width: int
    heads: int
    head_width: int
    hidden: tuple[int, ...]
    pooled: bool = False


@dataclass(frozen=True)
class Network:
    """What a row of a table describes."""

    layers: tuple[Layer, ...]
    post_norm: bool = False
    causal: bool = False
    activation: str = "gelu"
    outputs: int = 100
    tokens: int = 64
    image: int = 0
    """Side of the patch grid; 0: token ids."""

    @property
    def depth(self) -> int:
        return len(self.layers)


class Attention(nn.Module):
    """Explicit, so that probabilities can be looked at through `clip`."""

    clip: nn.Module | None = None

    def __init__(self, layer: Layer, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.head_width, self.causal = layer.heads, layer.head_width, causal
        inner = layer.heads * layer.head_width
        self.qkv, self.out = nn.Linear(layer.width, 3 * inner), nn.Linear(inner, layer.width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_width)
        if self.causal:
            scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -1e30)
        weights = torch.softmax(scores, dim=-1)
        if self.clip is not None:
            weights = self.clip(weights)
        y: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Module):
    def __init__(self, layer: Layer, activation: str) -> None:
        super().__init__()
        widths = (layer.width, *layer.hidden)
        self.maps = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        made: Mapping[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}
        self.activations = nn.ModuleList(made[activation]() for _ in layer.hidden)
        self.hidden, self.down = nn.Identity(), nn.Linear(widths[-1], layer.width)

    def forward(self, x: Tensor) -> Tensor:
        for linear, activation in zip(self.maps, self.activations, strict=True):
            x = activation(linear(x))
        y: Tensor = self.down(self.hidden(x))
        return y


class Pool(nn.Module):
    """Halves the grid's sides: a depthwise convolution that widens the channels (PiT)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.after = after
        self.convolution = nn.Conv2d(before, math.lcm(before, after), 3, stride=2, padding=1, groups=before)
        self.map = nn.Linear(math.lcm(before, after), after)

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        y = self.convolution(torch.unflatten(x.transpose(1, 2), 2, (side, side)))
        mapped: Tensor = self.map(y.flatten(2).transpose(1, 2))
        return mapped


class Block(nn.Module):
    def __init__(self, layer: Layer, network: Network, before: int) -> None:
        super().__init__()
        self.post_norm = network.post_norm
        self.pool = Pool(before, layer.width) if layer.pooled else None
        self.attention = Attention(layer, causal=network.causal)
        self.feed = FeedForward(layer, network.activation)
        self.norms = nn.ModuleList(nn.LayerNorm(layer.width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = self.pool(x)
        first, second = self.norms
        if self.post_norm:
            x = first(x + self.attention(x))
            y: Tensor = second(x + self.feed(x))
            return y
        x = x + self.attention(first(x))
        z: Tensor = x + self.feed(second(x))
        return z


class Embedding(nn.Module):
    """Ids through a table of 1,000, or flat patches of 48 numbers."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        d = network.layers[0].width
        self.weight = nn.Parameter(torch.empty(d, 48) if network.image else torch.empty(1000, d))
        self.is_image = bool(network.image)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight) if self.is_image else functional.embedding(x, self.weight)


class Embedded(nn.Module):
    """Adds a table of positions."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(network.tokens, network.layers[0].width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.shape[1]]


class PublishedNet(nn.Module):
    """Logits from the mean over the tokens, or from every token of a causal one."""

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__()
        self.network = network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding, self.embedded = Embedding(network), Embedded(network)
            widths = [network.layers[0].width, *(layer.width for layer in network.layers)]
            self.blocks = nn.ModuleList(
                Block(layer, network, before) for layer, before in zip(network.layers, widths, strict=False)
            )
            self.norm = nn.Identity() if network.post_norm else nn.LayerNorm(widths[-1])
            self.head = nn.Linear(widths[-1], network.outputs)
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedded(self.embedding(x))
        for block in self.blocks:
            y = block(y)
        y = self.norm(y)
        logits: Tensor = self.head(y if self.network.causal else y.mean(1))
        return logits

    def points(self) -> Points:
        """The last norm of a post-norm network stands inside its last block."""
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return Points(
            roles=dict(self._roles()),
            feed_forwards=tuple(
                FeedForwardPoint(block.feed, block.feed.hidden, tuple(block.feed.activations))
                for block in blocks
            ),
            mixers=tuple(block.attention for block in blocks),
            probabilities=tuple((block.attention, "clip") for block in blocks),
            blocks=tuple(blocks),
            norms=tuple(module for module in self.modules() if isinstance(module, nn.LayerNorm)),
            embedding=self.embedding,
            embedded=self.embedded,
            last=self.norm,
            head=self.head,
            ends_in_norm=True,
            is_causal=self.network.causal,
            d_model=self.network.layers[0].width,
        )

    def _roles(self) -> Sequence[tuple[str, ParameterRole]]:
        roles = [("embedding.weight", ParameterRole("embed")), ("head.weight", ParameterRole("head"))]
        for index, layer in enumerate(self.network.layers):
            name, inner = f"blocks.{index}", layer.heads * layer.head_width
            roles += [
                (f"{name}.attention.qkv.weight", ParameterRole("mixer.in", index, (inner,) * 3)),
                (f"{name}.attention.out.weight", ParameterRole("mixer.out", index)),
                (f"{name}.feed.down.weight", ParameterRole("ffn.out", index)),
            ]
            roles += [
                (f"{name}.feed.maps.{place}.weight", ParameterRole("ffn.in", index))
                for place in range(len(layer.hidden))
            ]
        return roles


def flexibert(row: Mapping[str, str]) -> Network:
    """Every layer softmax attention, as the table's README says they were trained."""
    d = int(row["hidden"])
    layers = []
    for text in row["layers"].split("|"):
        _, _, heads, ff_dim, count = text.split(":")
        hidden = (4 * d, *(int(ff_dim),) * (int(count) - 1))
        layers.append(Layer(d, int(heads), d // int(heads), hidden))
    return Network(tuple(layers), post_norm=True, outputs=2)


def autoformer(row: Mapping[str, str]) -> Network:
    """Heads of 64."""
    d, ratios = int(row["hidden"]), [float(one) for one in row["mlp_ratio"].split("-")]
    layers = tuple(
        Layer(d, int(heads), 64, (int(d * ratio),))
        for heads, ratio in zip(row["heads"].split("-"), ratios, strict=True)
    )
    return Network(layers, image=8)


def pit(row: Mapping[str, str]) -> Network:
    """Three stages, the grid's sides halved between them."""
    base, ratio = int(row["base_dim"]), int(row["mlp_ratio"])
    layers: list[Layer] = []
    stages = zip(row["depth"].split("-"), row["heads"].split("-"), strict=True)
    for stage, (depth, heads) in enumerate(stages):
        width = base * int(heads)
        layers += [
            Layer(width, int(heads), base, (width * ratio,), pooled=stage > 0 and place == 0)
            for place in range(int(depth))
        ]
    return Network(tuple(layers), image=8)


def lts(row: Mapping[str, str]) -> Network:
    """The decoder without its memory of earlier segments."""
    d = int(row["d_model"])
    layers = tuple(
        Layer(d, heads, d // heads, (inner,))
        for heads, inner in zip(json.loads(row["n_head"]), json.loads(row["d_inner"]), strict=True)
    )
    post_norm = row["pre_lnorm"] != "true"
    return Network(layers, post_norm=post_norm, causal=True, activation="relu", outputs=512)
