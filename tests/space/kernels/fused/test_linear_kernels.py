"""Convolution, quantized linear maps and experts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from space.kernels.fused.depthwise import depthwise, depthwise_twin
from space.kernels.fused.experts import expert_linear, expert_linear_twin
from space.kernels.fused.int8 import int8_linear, int8_linear_twin, int8_mixed_linear
from space.kernels.fused.packed_linear import fp4_linear, int4_linear, packed_linear_twin
from space.quantization import Fp4Linear, Int4Linear
from space.quantization.int8_dynamic import int8_linear_reference, quantize_rows
from space.quantization.int8_mixed import Int8MixedLinear

Draw = Callable[..., Tensor]
Agree = Callable[..., None]


@pytest.mark.parametrize(("taps", "ahead"), [(3, 0), (4, 0), (5, 0), (5, 2), (3, 1)])
def test_depthwise(dtype: torch.dtype, taps: int, ahead: int, draw: Draw, agree: Agree) -> None:
    x = draw(2, 7, 37, dtype=dtype).transpose(1, 2) if taps == 4 else draw(2, 37, 7, dtype=dtype)
    agree(
        lambda x, kernel, bias: depthwise(x, kernel, bias, ahead),
        lambda x, kernel, bias: depthwise_twin(x, kernel, bias, ahead),
        [x, draw(7, taps, dtype=dtype), None if taps == 3 else draw(7, dtype=dtype)],
    )


@pytest.mark.parametrize("rows", [1, 70])
def test_int8_linear_is_exact_but_for_the_scales(dtype: torch.dtype, rows: int, draw: Draw) -> None:
    x = draw(rows, 75, dtype=dtype, strided=rows == 70)
    weight, scale = quantize_rows(draw(70, 75))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(
        int8_linear(x, weight, scale), int8_linear_twin(x, weight, scale), rtol=tolerance, atol=tolerance
    )


def test_int8_linear_equals_the_definition_number_by_number(draw: Draw) -> None:
    x, w = draw(3, 20), draw(5, 20)
    x[1] = 0.0  # a row of zeros has scale 1
    wanted = int8_linear_reference(x.cpu(), w.cpu())
    y = int8_linear(x, *quantize_rows(w)).cpu()
    torch.testing.assert_close(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("outliers", [(), (3, 130)])
def test_outlier_inputs_stay_as_they_are(dtype: torch.dtype, outliers: tuple[int, ...], draw: Draw) -> None:
    x = draw(2, 9, 150, dtype=dtype)
    x[..., list(outliers)] *= 30.0
    plain = Int8MixedLinear(*quantize_rows(draw(33, 150)))
    y = int8_mixed_linear(x, plain.weight, plain.scale)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(y, plain(x), rtol=tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("inputs", [64, 301])
def test_four_bit_weights(dtype: torch.dtype, rows: int, inputs: int, draw: Draw, agree: Agree) -> None:
    x, weight = draw(rows, inputs, dtype=dtype, strided=True), draw(21, inputs)
    four, fp4 = Int4Linear(weight, 32), Fp4Linear(weight)
    for y, plain, twin in (
        (int4_linear(x, four.codes, four.zeros, four.scale, 32), four(x),
         packed_linear_twin(x, four.codes, four.zeros, four.scale, 32)),
        (fp4_linear(x, fp4.codes, fp4.exponents, 32), fp4(x),
         packed_linear_twin(x, fp4.codes, None, fp4.exponents, 32)),
    ):  # fmt: skip
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(y, plain, rtol=tolerance, atol=20 * tolerance)
        torch.testing.assert_close(twin, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", [(0, 70, 0, 5), (3, 64, 1, 0)])
def test_experts(dtype: torch.dtype, counts: tuple[int, ...], draw: Draw, agree: Agree) -> None:
    ends = torch.tensor(counts).cumsum(0)
    rows = int(ends[-1])
    agree(
        lambda x, w: expert_linear(x, w, ends.to(x.device)),
        lambda x, w: expert_linear_twin(x, w, ends),
        [draw(rows, 40, dtype=dtype, strided=True), draw(4, 70, 40, dtype=dtype)],
    )
