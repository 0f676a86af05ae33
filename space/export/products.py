"""The linear maps of the number formats as ONNX Runtime computes them.

    int8_dynamic   DynamicQuantizeLinear, MatMulInteger, and the two scales: int8 weights per output channel,
                   uint8 activations with one scale per tensor
    int8_mixed     the same on inputs without the frozen outliers, and a float product of these; without
                   frozen ones it is int8_dynamic
    int4           com.microsoft MatMulNBits on the packed codes, float32 accumulation

Integers and scales are those of the eager form, so the weights of a file are the weights that were evaluated.
A product stands in the file wherever its module is called: weights shared by several layers are stored once.
"""

from typing import Any

import torch
from jaxtyping import Float, Float32, Int8, Int64, UInt8
from torch import Tensor, nn

from ..quantization import (
    Int4Linear,
    Int8FrozenLinear,
    Int8Linear,
    Int8MixedLinear,
)

MICROSOFT = "com.microsoft"
FLOAT32_ACCUMULATION = 1
"""MatMulNBits' accuracy_level; its fourth rounds activations to int8 and is no longer the eager form."""
ONNX_FLOAT = 1
"""TensorProto.FLOAT."""


def onnx_form(module: nn.Module) -> nn.Module:
    """The module with every converted linear map replaced by its ONNX form, in place."""
    done: dict[nn.Module, nn.Module] = {}
    own = _form_of(module)
    if own is not None:
        return own
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is None:
                continue
            form = done[child] if child in done else _form_of(child)
            if form is not None:
                done[child] = form
                setattr(parent, name, form)
    return module


def _form_of(module: nn.Module) -> nn.Module | None:
    """None: exported as it is."""
    match module:
        case Int8Linear() | Int8MixedLinear():
            return Int8Product(module.weight, module.scale)
        case Int8FrozenLinear():
            plain = Int8Product(module.weight, module.scale)
            return MixedProduct(plain, module.columns, module.frozen) if len(module.columns) else plain
        case Int4Linear():
            return Int4Product(module)
    return None


class Int8Product(nn.Module):
    """Weights stand as MatMulInteger takes them, [in, out]."""

    weight: Int8[Tensor, "in_features out_features"]
    scale: Float32[Tensor, " out_features"]

    def __init__(
        self, weight: Int8[Tensor, "out_features in_features"], scale: Float32[Tensor, "out_features 1"]
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.T.contiguous())
        self.register_buffer("scale", scale[:, 0].contiguous())

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        y: Tensor = _Int8.apply(x, self.weight, self.scale)  # type: ignore[no-untyped-call]  # torch's
        return y


class MixedProduct(nn.Module):
    """Inputs without outliers in int8, the frozen ones in float32."""

    keep: Float32[Tensor, " in_features"]
    columns: Int64[Tensor, " frozen"]
    frozen: Float32[Tensor, "frozen out_features"]

    def __init__(self, plain: Int8Product, columns: Tensor, frozen: Float32[Tensor, "out frozen"]) -> None:
        super().__init__()
        self.plain = plain
        self.register_buffer("keep", torch.ones(plain.weight.shape[0]).index_fill(0, columns, 0.0))
        self.register_buffer("columns", columns)
        self.register_buffer("frozen", frozen.T.contiguous())

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        y: Tensor = self.plain(x * self.keep) + x.index_select(-1, self.columns) @ self.frozen
        return y


class Int4Product(nn.Module):
    """Codes stand as MatMulNBits takes them: the even one in the low half of a byte."""

    codes: UInt8[Tensor, "out_features groups bytes"]
    scale: Float32[Tensor, " all_groups"]
    zeros: UInt8[Tensor, " all_zero_bytes"]

    def __init__(self, linear: Int4Linear) -> None:
        super().__init__()
        self.in_features, self.group_size = linear.in_features, linear.group_size
        self.register_buffer("codes", swapped(linear.codes).view(*linear.scale.shape, self.group_size // 2))
        self.register_buffer("scale", linear.scale.flatten())
        self.register_buffer("zeros", swapped(linear.zeros).flatten())

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        y: Tensor = _Int4.apply(  # type: ignore[no-untyped-call]  # torch's
            x, self.codes, self.scale, self.zeros, self.in_features, self.group_size
        )
        return y


def swapped(packed: UInt8[Tensor, "*axes bytes"]) -> UInt8[Tensor, "*axes bytes"]:
    """The two halves of every byte in the other order."""
    return (packed << 4) | (packed >> 4)


class _Int8(torch.autograd.Function):
    """One product; what the trace computes is the float form, only its shape counts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return x @ (weight * scale)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, scale: Any) -> Any:
        integers, x_scale, x_zero = g.op("DynamicQuantizeLinear", x, outputs=3)
        sums = g.op("Cast", g.op("MatMulInteger", integers, weight, x_zero), to_i=ONNX_FLOAT)
        return _shaped(g.op("Mul", sums, g.op("Mul", x_scale, scale)), x, scale.type().sizes()[0])


class _Int4(torch.autograd.Function):
    """One product; what the trace computes has the right shape and no meaning."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, codes: Tensor, scale: Tensor, zeros: Tensor, in_features: int, group_size: int
    ) -> Tensor:
        return x.new_zeros(*x.shape[:-1], codes.shape[0])

    @staticmethod
    def symbolic(
        g: Any, x: Any, codes: Any, scale: Any, zeros: Any, in_features: int, group_size: int
    ) -> Any:
        outputs = codes.type().sizes()[0]
        y = g.op(
            f"{MICROSOFT}::MatMulNBits", x, codes, scale, zeros,
            K_i=in_features, N_i=outputs, bits_i=4, block_size_i=group_size,
            accuracy_level_i=FLOAT32_ACCUMULATION,
        )  # fmt: skip
        return _shaped(y, x, outputs)


def _shaped(y: Any, x: Any, outputs: int) -> Any:
    """y with the shape of x but for the last axis: the exporter cannot infer it through foreign operators."""
    y.setType(x.type().with_sizes([*x.type().varyingSizes()[:-1], outputs]))
    return y
