"""Other people's kernels for what `kernel_cases` computes, on the same inputs; no library: ImportError.

fla-core (linear attention), liger-kernel (norms, gates), torchao and bitsandbytes (quantized maps), torch's
own flex attention (windows). Layouts are changed outside the timed call where a library has its own.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[], Any]


def library(module: str) -> Any:
    return importlib.import_module(module)


def fla_sums(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None) -> Call:
    """`chunk_*` of fla-core, [batch, tokens, heads, width], which is how our views lie in memory."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if decay is None:
        run = library("fla.ops.linear_attn").chunk_linear_attn
        return lambda: run(q, k, v, scale=1.0, normalize=False)
    g = decay.transpose(1, 2).contiguous()
    if decay.dim() == 3:
        scalar = library("fla.ops.simple_gla").chunk_simple_gla
        return lambda: scalar(q, k, v, g=g, scale=1.0)
    vector = library("fla.ops.gla").chunk_gla
    return lambda: vector(q, k, v, g, scale=1.0)


def liger_rms_norm(x: Tensor, gain: Tensor) -> Call:
    norm = library("liger_kernel.ops.rms_norm").LigerRMSNormFunction
    return lambda: norm.apply(x, gain, 1e-6, 0.0, "llama", False)


def liger_poly_norm(u: Tensor, scales: Tensor, bias: Tensor) -> Call:
    norm = library("liger_kernel.ops.poly_norm").LigerPolyNormFunction
    return lambda: norm.apply(u, scales, bias, 1e-12, False)


def liger_silu_gate(packed: Tensor) -> Call:
    product = library("liger_kernel.ops.swiglu").LigerSiLUMulFunction
    gate, up = (half.contiguous() for half in packed.chunk(2, dim=-1))
    return lambda: product.apply(gate, up)


def torchao_map(x: Tensor, outputs: int, config: str, **options: Any) -> Call:
    """A linear map in a number format of torchao, compiled as its documentation says."""
    quantization = library("torchao.quantization")
    linear = nn.Sequential(nn.Linear(x.shape[-1], outputs, bias=False, device=x.device, dtype=x.dtype))
    quantization.quantize_(linear, getattr(quantization, config)(**options))
    compiled = torch.compile(linear, mode="max-autotune-no-cudagraphs")
    return lambda: compiled(x)


def bitsandbytes_int8(x: Tensor, outputs: int) -> Call:
    linear = library("bitsandbytes").nn.Linear8bitLt(
        x.shape[-1], outputs, bias=False, has_fp16_weights=False, threshold=6.0
    )
    linear = linear.to(x.device).eval()
    return lambda: linear(x)


def flex_window(q: Tensor, k: Tensor, v: Tensor, window: int) -> Call:
    flex = library("torch.nn.attention.flex_attention")

    def seen(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & (i - j < window)

    n = q.shape[2]
    mask = flex.create_block_mask(seen, None, None, n, n, device=q.device)
    compiled: Callable[..., Tensor] = torch.compile(flex.flex_attention)
    return lambda: compiled(q, k, v, block_mask=mask)
