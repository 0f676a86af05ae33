"""LLM.int8(): eight-bit products, except for the few inputs that carry outliers.

    O = {columns of X with any |x| >= 6}        y = int8(X without O) + X_O W_O

int8() is the product of `int8_dynamic`; the row scales of X leave the outliers out, which is the point: one
large value otherwise coarsens every other value of its row. Source: Dettmers et al. 2022, arXiv:2208.07339,
section 3. Without outliers it is `int8_dynamic`.

Two forms. Without a calibration O is found in every call, over all its rows, and W_O is taken from the stored
integers. With one, O is *frozen*: the inputs that reached 6 while the calibration ran, whose weights are
stored in float32 beside the integers. Only the frozen form has an ONNX form; a file written without a
calibration has no outliers frozen and computes as `int8_dynamic` does.
"""

from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int8, Int64
from torch import Tensor, nn

from ..kernels.dispatch import fused
from .format import Format
from .int8_dynamic import int8_linear_reference, int8_product, quantize_rows

THRESHOLD = 6.0


class Int8Mixed(Format):
    """Scales are stored in float32. A frozen input adds a float32 weight per output and an int64 index."""

    name: ClassVar[str] = "int8_mixed"
    real_on: ClassVar[frozenset[str]] = frozenset({"eager", "onnxruntime"})
    needs_calibration: ClassVar[bool] = True

    def bits_per_weight(self, in_features: int, frozen: int = 0) -> Fraction:
        """`frozen` inputs: known only after a calibration, so costs in closed form take none. The index of
        an input is shared by all outputs and is left out."""
        return 8 + Fraction(32 + 32 * frozen, in_features)

    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        if peaks is None:
            return Int8MixedLinear(*quantize_rows(weight))
        return Int8FrozenLinear(weight, (peaks >= THRESHOLD).nonzero()[:, 0])


class Int8MixedLinear(nn.Module):
    """Outlier inputs found in every call."""

    weight: Int8[Tensor, "out_features in_features"]
    scale: Float32[Tensor, "out_features 1"]

    def __init__(
        self, weight: Int8[Tensor, "out_features in_features"], scale: Float32[Tensor, "out_features 1"]
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        if (run := fused("int8_mixed_linear", x)) is not None:
            fast: Tensor = run(x, self.weight, self.scale)
            return fast
        rows = x.reshape(-1, x.shape[-1]).float()
        is_outlier = (rows.abs() >= THRESHOLD).any(dim=0)
        y = int8_product(rows.masked_fill(is_outlier, 0.0), self.weight, self.scale)
        if is_outlier.any():
            y = y + rows[:, is_outlier] @ (self.weight[:, is_outlier] * self.scale).T
        return y.reshape(*x.shape[:-1], self.weight.shape[0]).to(x.dtype)


class Int8FrozenLinear(nn.Module):
    """Outlier inputs fixed; their integers are zero and take no part in the weights' scales."""

    weight: Int8[Tensor, "out_features in_features"]
    scale: Float32[Tensor, "out_features 1"]
    columns: Int64[Tensor, " frozen"]
    frozen: Float32[Tensor, "out_features frozen"]

    def __init__(
        self, weight: Float32[Tensor, "out_features in_features"], columns: Int64[Tensor, " frozen"]
    ) -> None:
        super().__init__()
        integers, scale = quantize_rows(weight.index_fill(1, columns, 0.0))
        self.register_buffer("weight", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("columns", columns)
        self.register_buffer("frozen", weight[:, columns])

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        rows = x.reshape(-1, x.shape[-1]).float()
        inside = rows.index_fill(1, self.columns, 0.0)
        if (run := fused("int8_linear", rows)) is not None:
            y: Tensor = run(inside, self.weight, self.scale)
        else:
            y = int8_product(inside, self.weight, self.scale)
        if len(self.columns):
            y = y + rows[:, self.columns] @ self.frozen.T
        return y.reshape(*x.shape[:-1], self.weight.shape[0]).to(x.dtype)


def int8_mixed_reference(
    x: Float[Tensor, "rows in_features"], weight: Float[Tensor, "out_features in_features"]
) -> Float[Tensor, "rows out_features"]:
    """The definition with float weights of outlier inputs: two products, each over its own columns."""
    outliers = [any(abs(row[j]) >= THRESHOLD for row in x.tolist()) for j in range(x.shape[1])]
    inside = torch.tensor([j for j, is_outlier in enumerate(outliers) if not is_outlier], dtype=torch.int64)
    y = int8_linear_reference(x[:, inside], weight[:, inside]) if len(inside) else torch.zeros(1, 1)
    exact = [
        [
            sum(a * b for a, b, out in zip(left, right, outliers, strict=True) if out)
            for right in weight.tolist()
        ]
        for left in x.tolist()
    ]
    return y + torch.tensor(exact, dtype=x.dtype)
