"""The format of training changes nothing."""

import torch
from torch import nn

from space.quantization import Fp32


def test_the_map_stays_itself_and_a_product_is_the_float_one() -> None:
    linear = nn.Linear(5, 3)
    assert Fp32().convert(linear) is linear
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Fp32().product(linear.weight.detach())(x), x @ linear.weight.T)
    assert Fp32().bits_per_weight(5) == 32
