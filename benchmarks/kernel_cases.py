"""What `benchmarks.kernels` times: every kernel with inputs, plain form, rivals, and what it must move.

Bytes are those that must be read and written once, whatever a form really moves; `sums` are multiply-adds.
Plain forms of scans and windows are those that models run elsewhere, by chunks and blocks. Sizes are those
of 7-billion-parameter models where memory decides, and 1k to 16k tokens for scans.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from space.kernels.attention import pair_bias
from space.kernels.fused import (
    attention,
    depthwise,
    experts,
    gates,
    int8,
    packed_linear,
    poly_norm,
    poly_relu,
    scan,
)
from space.kernels.fused import rms_norm as norms
from space.kernels.scan import Chunks, Growth, bounded_sums, past_bias, scalar_sums
from space.mixers.sliding_window import banded, blocks_of
from space.quantization import Fp4Linear, Int4Linear
from space.quantization.int8_dynamic import quantize_rows

from . import kernel_rivals as rivals

EPS = 1e-6
Roof = Literal["copy", "bf16", "int8"]
Form = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """`inputs()` draws new ones; forms take them. `rivals`: name -> function of the inputs to a call."""

    name: str
    shape: str
    inputs: Callable[[], tuple[Any, ...]]
    run: Form
    twin: Form
    roof: Roof
    bytes: int
    bytes_backward: int = 0
    """0: has no gradient."""
    sums: int = 0
    rivals: Mapping[str, Form] = field(default_factory=dict)
    tolerance: float = 0.05
    """Of the largest number, between kernel and twin in 16 bits."""
    stepped: float = 0.0
    """Share of the numbers that may differ by more, where a gradient has steps: 16 bits round across them."""


@dataclass(frozen=True)
class Sizes:
    """`small`: what Triton's interpreter computes in seconds, to check the cases themselves."""

    device: torch.device
    dtype: torch.dtype
    small: bool

    def of(self, full: int, small: int) -> int:
        return small if self.small else full

    def random(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, device=self.device) * scale).to(self.dtype).requires_grad_()

    def heads(self, b: int, n: int, heads: int, width: int, scale: float = 1.0) -> Tensor:
        """[batch, heads, tokens, width] as a projection leaves it."""
        return self.random(b, n, heads, width, scale=scale).transpose(1, 2).detach().requires_grad_()


def cases(at: Sizes) -> Iterator[Case]:
    yield from _rows(at)
    yield from _scans(at)
    yield from _attention(at)
    yield from _maps(at)


def _rows(at: Sizes) -> Iterator[Case]:
    rows, width, hidden = at.of(16384, 8), at.of(4096, 48), at.of(11008, 40)
    number = 2 * rows * width
    shape, random = f"{rows} x {width}", at.random
    yield Case(
        "rms_norm", shape, lambda: (random(rows, width), random(width)),
        lambda x, gain: norms.rms_norm(x, gain, EPS),
        lambda x, gain: norms.rms_norm_twin(x, None, gain, EPS, False)[0],
        "copy", 2 * number, 3 * number, rivals={"liger-kernel": rivals.liger_rms_norm},
    )  # fmt: skip
    yield Case(
        "add_rms_norm", shape, lambda: (random(rows, width), random(rows, width), random(width)),
        lambda x, branch, gain: norms.add_rms_norm(x, branch, gain, EPS),
        lambda x, branch, gain: norms.rms_norm_twin(x, branch, gain, EPS, False),
        "copy", 4 * number, 4 * number,
    )  # fmt: skip
    yield Case(
        "crms_norm", shape, lambda: (random(rows, width),),
        lambda x: norms.crms_norm(x, EPS), lambda x: norms.rms_norm_twin(x, None, None, EPS, True)[0],
        "copy", 2 * number, 3 * number,
    )  # fmt: skip
    yield Case(
        "poly_norm", shape, lambda: (random(rows, width), random(3), random(1)),
        poly_norm.poly_norm, poly_norm.poly_norm_twin, "copy", 2 * number, 3 * number,
        rivals={"liger-kernel": rivals.liger_poly_norm},
    )  # fmt: skip
    yield Case(
        "poly_relu", shape, lambda: (random(rows, width), random(3), random(1)),
        poly_relu.poly_relu, poly_relu.poly_relu_twin, "copy", 2 * number, 3 * number,
    )  # fmt: skip
    yield Case(
        "relu2", shape, lambda: (random(rows, width),),
        gates.relu2, lambda u: torch.relu(u).square(), "copy", 2 * number, 3 * number,
    )  # fmt: skip
    half = 2 * rows * hidden
    yield Case(
        "gated silu", f"{rows} x 2 {hidden}", lambda: (random(rows, 2 * hidden),),
        lambda packed: gates.gated(packed, "silu"), lambda packed: gates.gated_twin(packed, "silu"),
        "copy", 3 * half, 5 * half, rivals={"liger-kernel": rivals.liger_silu_gate},
    )  # fmt: skip
    b, tokens, channels = at.of(16, 1), at.of(4096, 40), at.of(2048, 24)
    number = 2 * b * tokens * channels
    yield Case(
        "depthwise", f"{b} x {tokens} x {channels}, 4 taps",
        lambda: (random(b, tokens, channels), random(channels, 4), random(channels)),
        lambda x, taps, bias: depthwise.depthwise(x, taps, bias, 0),
        lambda x, taps, bias: depthwise.depthwise_twin(x, taps, bias, 0),
        "copy", 2 * number, 3 * number,
    )  # fmt: skip


def _scans(at: Sizes) -> Iterator[Case]:
    heads, total = at.of(16, 1), at.of(65536, 80)
    for tokens in (1024, 4096, 16384) if not at.small else (80,):
        for width in (64, 128) if not at.small else (16,):
            for decay in ("none", "scalar", "vector"):
                yield _scan(at, decay, total // tokens, heads, tokens, width)
    yield _step(at)


def _step(at: Sizes) -> Case:
    """One token of many sequences, whose states are what moves: read and written in float32."""
    b, heads, width = at.of(64, 1), at.of(16, 2), at.of(128, 16)

    def inputs() -> tuple[Tensor, ...]:
        q, k, v = (at.random(b, heads, width, scale=0.3).detach() for _ in range(3))
        fade = -0.1 * at.random(b, heads).detach().abs()
        return q, k, v, fade, torch.randn(b, heads, width, width, device=at.device)

    return Case(
        "faded_step scalar", f"{b} x {heads} heads x {width}", inputs, scan.faded_step, plain_step,
        "copy", 8 * b * heads * width**2,
    )  # fmt: skip


def plain_step(q: Tensor, k: Tensor, v: Tensor, fade: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """In torch."""
    after = fade.float().exp()[..., None, None] * state + k.float()[..., None] * v.float()[..., None, :]
    return (q.float()[..., None, :] @ after)[..., 0, :].to(v.dtype), after


def _scan(at: Sizes, decay: str, b: int, heads: int, tokens: int, width: int) -> Case:
    def inputs() -> tuple[Tensor | None, ...]:
        q, k, v = (at.heads(b, tokens, heads, width, scale=0.3) for _ in range(3))
        if decay == "none":
            return q, k, v, None
        shape = (b, heads, tokens) if decay == "scalar" else (b, heads, tokens, width)
        return q, k, v, (-0.1 * at.random(*shape).detach().abs()).requires_grad_()

    number = 2 * b * heads * tokens * width
    gates_too = number if decay == "vector" else 0
    return Case(
        f"faded_sums {decay}", f"{b} x {heads} heads x {tokens} x {width}", inputs,
        lambda q, k, v, decay: scan.faded_sums(q, k, v, decay)[0], plain_sums,
        "copy", 4 * number + gates_too, 8 * number + 2 * gates_too,
        sums=b * heads * tokens * (2 * width**2 + 64 * width),
        rivals={"fla-core": rivals.fla_sums},
    )  # fmt: skip


def plain_sums(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None) -> Tensor:
    """By chunks in torch, in float32 as models do."""
    n, is_vector = q.shape[2], decay is not None and decay.dim() == 4
    chunks = Chunks.of(n, 32 if is_vector else 128)
    fade = torch.zeros_like(q[..., :1]) if decay is None else decay if is_vector else decay[..., None]
    q, k, v, fade = (chunks.cut(part.float()) for part in (q, k, v, fade))
    if is_vector:
        past = torch.ones(chunks.size, chunks.size, dtype=torch.bool, device=q.device).tril()
        mixed = bounded_sums(q, k, v, (Growth.of(fade),), past, chunks)
    else:
        mixed = scalar_sums(q, k, v, (fade,), past_bias(chunks.size).to(q.device), chunks)
    return mixed if chunks.count == 1 else mixed.flatten(2, 3)[:, :, :n]


def plain_window(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """By blocks in torch."""
    block, reads = blocks_of(window, causal=True)
    query = torch.arange(block, device=q.device)
    key = torch.arange(reads * block, device=q.device) - block
    band = pair_bias(query[:, None] - key[None, :], causal=True, window=window)
    return banded(q, k, v, band, (block, reads))


def _attention(at: Sizes) -> Iterator[Case]:
    b, heads, tokens, width = at.of(2, 1), at.of(16, 2), at.of(4096, 70), at.of(128, 16)
    window = at.of(512, 9)
    number = 2 * b * heads * tokens * width

    def inputs() -> tuple[Tensor, ...]:
        return tuple(at.heads(b, tokens, heads, width) for _ in range(3))

    gamma = torch.full((), -4.0 / tokens, device=at.device)
    shape = f"{b} x {heads} heads x {tokens} x {width}"
    yield Case(
        "window_attention", f"{shape}, window {window}", inputs,
        lambda q, k, v: attention.window_attention(q, k, v, window - 1, 0),
        lambda q, k, v: plain_window(q, k, v, window),
        "bf16", 4 * number, 8 * number, sums=2 * b * heads * tokens * window * width,
        rivals={"flex_attention": lambda q, k, v: rivals.flex_window(q, k, v, window)},
    )  # fmt: skip
    yield Case(
        "clipped attention", shape, inputs,
        lambda q, k, v: attention.window_attention(q, k, v, tokens, 0, gamma),
        lambda q, k, v: attention.window_attention_twin(q, k, v, tokens, 0, gamma),
        "bf16", 4 * number, 8 * number, sums=b * heads * tokens**2 * width, stepped=0.05,
    )  # fmt: skip


def _maps(at: Sizes) -> Iterator[Case]:
    inputs, outputs, rows = at.of(4096, 64), at.of(4096, 48), at.of(4096, 20)
    weight, scale = quantize_rows(torch.randn(outputs, inputs, device=at.device))
    product = {"sums": rows * inputs * outputs, "bytes": rows * (2 * inputs + 2 * outputs) + inputs * outputs}

    def one(x: Tensor, config: str, **options: Any) -> Any:
        return rivals.torchao_map(x, outputs, config, **options)

    def tokens(count: int) -> Callable[[], tuple[Tensor]]:
        return lambda: (at.random(count, inputs).detach(),)

    shape = f"{rows} x {inputs} x {outputs}"
    yield Case(
        "int8_linear", shape, tokens(rows), lambda x: int8.int8_linear(x, weight, scale),
        lambda x: int8.int8_linear_twin(x, weight, scale), "int8", **product,
        rivals={"torchao": lambda x: one(x, "Int8DynamicActivationInt8WeightConfig"), "bf16 product": _dense},
    )  # fmt: skip
    yield Case(
        "int8_mixed_linear", shape, tokens(rows), lambda x: int8.int8_mixed_linear(8 * x, weight, scale),
        lambda x: int8.int8_linear_twin(8 * x, weight, scale, _flags(8 * x)), "int8", **product,
        rivals={"bitsandbytes": lambda x: rivals.bitsandbytes_int8(8 * x.half(), outputs)},
    )  # fmt: skip
    full = torch.randn(outputs, inputs, device=at.device)
    four, fp4 = Int4Linear(full, 32), Fp4Linear(full)
    for count in (1, 8):
        yield Case(
            "int4_linear", f"{count} x {inputs} x {outputs}", tokens(count),
            lambda x: packed_linear.int4_linear(x, four.codes, four.zeros, four.scale, 32),
            lambda x: packed_linear.packed_linear_twin(x, four.codes, four.zeros, four.scale, 32),
            "copy", four.codes.numel() + four.zeros.numel() + 4 * four.scale.numel(),
            rivals={
                "torchao": lambda x: one(x, "Int4WeightOnlyConfig", group_size=32), "bf16 product": _dense,
            },
        )  # fmt: skip
        yield Case(
            "fp4_linear", f"{count} x {inputs} x {outputs}", tokens(count),
            lambda x: packed_linear.fp4_linear(x, fp4.codes, fp4.exponents, 32),
            lambda x: packed_linear.packed_linear_twin(x, fp4.codes, None, fp4.exponents, 32),
            "copy", fp4.codes.numel() + fp4.exponents.numel(), rivals={"bf16 product": _dense},
        )  # fmt: skip
    num_experts, count = at.of(8, 3), at.of(16384, 40)
    ends = (torch.arange(1, num_experts + 1) * count // num_experts).to(at.device)
    yield Case(
        "expert_linear", f"{num_experts} experts, {count} x {inputs} x {outputs}",
        lambda: (at.random(count, inputs), at.random(num_experts, outputs, inputs, scale=0.1)),
        lambda x, w: experts.expert_linear(x, w, ends), lambda x, w: experts.expert_linear_twin(x, w, ends),
        "bf16", 2 * (count * (inputs + outputs) + num_experts * inputs * outputs), 1,
        sums=count * inputs * outputs,
    )  # fmt: skip


def _flags(x: Tensor) -> Tensor:
    return (x.abs() >= int8.THRESHOLD).any(dim=0)


def _dense(x: Tensor) -> rivals.Call:
    """The product of cuBLAS in the inputs' type, square."""
    weight = torch.randn(x.shape[-1], x.shape[-1], device=x.device, dtype=x.dtype)
    return lambda: x @ weight
