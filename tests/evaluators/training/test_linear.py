import pytest
import torch
from torch.nn import functional as F

from evaluators.training.linear import fast_linear, has_onednn

pytestmark = pytest.mark.skipif(not has_onednn(), reason="this torch has no oneDNN; nothing is rerouted")


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 7, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("outputs", [1, 3, 9])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_equal_the_plain_form(
    shape: tuple[int, ...], outputs: int, with_bias: bool
) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=g, requires_grad=True)
    w = torch.randn(outputs, 5, generator=g, requires_grad=True)
    bias = torch.randn(outputs, generator=g, requires_grad=True) if with_bias else None
    inputs = [tensor for tensor in (x, w, bias) if tensor is not None]
    plain = F.linear(x, w, bias)
    up = torch.randn(plain.shape, generator=g)
    with fast_linear():
        fast = F.linear(x, w, bias)
    assert "_Linear" in type(fast.grad_fn).__name__
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    slow_gradients, fast_gradients = (torch.autograd.grad(y, inputs, up) for y in (plain, fast))
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_frozen_weights_get_no_gradient() -> None:
    x, w = torch.randn(4, 5, requires_grad=True), torch.randn(3, 5)
    with fast_linear():
        (gradient,) = torch.autograd.grad(F.linear(x, w).sum(), x)
    torch.testing.assert_close(gradient, w.sum(0).expand(4, 5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_take_the_plain_form(dtype: torch.dtype) -> None:
    x, w = torch.ones(4, 5, dtype=dtype), torch.ones(3, 5, dtype=dtype, requires_grad=True)
    with fast_linear():
        y = F.linear(x, w)
    assert y.dtype == dtype
    assert "_Linear" not in type(y.grad_fn).__name__


def test_nothing_is_rerouted_outside() -> None:
    with fast_linear():
        pass
    y = F.linear(torch.ones(2, 3), torch.ones(4, 3, requires_grad=True))
    assert "_Linear" not in type(y.grad_fn).__name__
