"""Twelve small networks of one operator each, whose times say how a device uses its arithmetic and memory.

products         of 64, 256, 512 rows and as many inputs; of one row and 128, 512, 1024 inputs; in int8
attention        over 128 tokens; of one query with 1024 tokens
elementwise      GELU, running sum; eight norms of little, one after the other, for what a call costs
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluators.latency.runtimes import InputShape
from space.quantization import NumberFormat, number_format

from .operators import COMPUTES_IN, Operator

TOKENS, WIDTH, HEADS = 256, 256, 4
PREFILL_TOKENS, PREFILL_WIDTH = 128, 128
CACHE_TOKENS = 1024
SMALL, NORMS = 16, 8
ATTENTION_CALLS = 6
"""Two products, softmax, and three that only move: heads split, keys turned, heads joined."""


@dataclass(frozen=True, slots=True)
class MicroKernel:
    """A network, what it is fed, and the operator that it is."""

    build: Callable[[], nn.Module]
    input: InputShape
    operator: Operator


class Product(nn.Module):
    """Linear map in a number format."""

    def __init__(self, inputs: int, outputs: int, form: NumberFormat = "fp32") -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.map = number_format(form).convert(nn.Linear(inputs, outputs, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x)
        return y


class Attention(nn.Module):
    """Softmax attention of x with itself, or of one query with a cache."""

    cache: Tensor | None

    def __init__(self, heads: int, cache: Tensor | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("cache", cache)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q = x.view(b, n, self.heads, d // self.heads).transpose(1, 2)
        k = q if self.cache is None else self.cache
        y = torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ k
        return y.transpose(1, 2).flatten(2)


class RunningSum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(dim=1)


def micro_kernels() -> dict[str, MicroKernel]:
    """By name; always the same."""
    kernels = {f"square {size}": _product(size, size, size) for size in (64, 256, 512)}
    kernels |= {f"one row {inputs}": _product(1, inputs, 4 * inputs) for inputs in (128, 512, 1024)}
    kernels["int8"] = _product(TOKENS, WIDTH, WIDTH, "int8_dynamic")
    kernels["attention"] = _attention()
    kernels["attention of one query"] = _one_query()
    kernels |= {"gelu": _elementwise(nn.GELU), "running sum": _elementwise(RunningSum)}
    kernels["norms"] = MicroKernel(
        lambda: nn.Sequential(*(nn.LayerNorm(SMALL) for _ in range(NORMS))),
        InputShape((1, SMALL, SMALL)),
        Operator("norm", 0.0, NORMS * 2.0 * 4.0 * SMALL * SMALL, calls=NORMS),
    )
    return kernels


def _product(rows: int, inputs: int, outputs: int, form: NumberFormat = "fp32") -> MicroKernel:
    weights = inputs * outputs * float(number_format(form).bits_per_weight(inputs)) / 8
    operator = Operator(
        role="feed_forward",
        flops=2.0 * rows * inputs * outputs,
        bytes=weights + 4.0 * rows * (inputs + outputs),
        number=COMPUTES_IN[form],
        rows=rows,
        outputs=outputs,
    )
    return MicroKernel(lambda: Product(inputs, outputs, form), InputShape((1, rows, inputs)), operator)


def _attention() -> MicroKernel:
    n, d = PREFILL_TOKENS, PREFILL_WIDTH
    moved = 4.0 * (4 * n * d + 2 * HEADS * n * n)
    operator = Operator("mixer", 4.0 * n * n * d, moved, calls=ATTENTION_CALLS)
    return MicroKernel(lambda: Attention(HEADS), InputShape((1, n, d)), operator)


def _one_query() -> MicroKernel:
    n, d = CACHE_TOKENS, PREFILL_WIDTH
    moved = 4.0 * (2 * n * d + 2 * HEADS * n)
    operator = Operator("mixer", 4.0 * n * d, moved, calls=ATTENTION_CALLS)

    def build() -> nn.Module:
        cache = torch.randn((1, HEADS, n, d // HEADS), generator=torch.Generator().manual_seed(0))
        return Attention(HEADS, cache)

    return MicroKernel(build, InputShape((1, 1, d)), operator)


def _elementwise(build: Callable[[], nn.Module]) -> MicroKernel:
    operator = Operator("norm", 0.0, 2.0 * 4.0 * TOKENS * WIDTH)
    return MicroKernel(build, InputShape((1, TOKENS, WIDTH)), operator)
