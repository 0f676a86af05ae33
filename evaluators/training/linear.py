"""Linear layers of a training through oneDNN instead of the BLAS library torch was built with.

    y = x W^T + b        dx = g W        dW^T = x^T g        db = sum of g

The same float32 arithmetic, summed in another order. torch's x86 wheels use MKL, which takes a slow path on
other makers' processors: on an AMD EPYC (Zen 5), one thread, 2,048 rows, 64 -> 256, the three products take
0.68, 0.69 and 0.79 ms there and 0.31, 0.30 and 0.38 ms through oneDNN. Only training and evaluation change,
inside `fast_linear()`: measured latencies are those of the model as a user runs it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # untyped in torch


@contextmanager
def fast_linear() -> Iterator[None]:
    """Inside, `F.linear` on float32 CPU tensors runs through oneDNN, where torch has it."""
    if not has_onednn():
        yield
        return
    with _Rerouted():
        yield


class _Rerouted(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and not kwargs and all(map(_suits, args)):
            return linear(*args)
        return func(*args, **(kwargs or {}))


def _suits(tensor: Tensor | None) -> bool:
    return tensor is None or (
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` through oneDNN, with gradients."""
    y: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]  # untyped in torch
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        g, rows = gradients[0].reshape(-1, len(weight)), x.reshape(-1, x.shape[-1])
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(g, weight.t()).view(x.shape) if needs_x else None,
            _weight_gradient(rows, g) if needs_weight else None,
            g.sum(0) if needs_bias else None,
        )


def _weight_gradient(x: Tensor, g: Tensor) -> Tensor:
    """g^T x; the narrower of the two is the one that is copied into rows."""
    if x.shape[1] <= g.shape[1]:
        return _product(x.t(), g.t()).t()
    return _product(g.t(), x.t())


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows [n, in] times weight^T [in, out]."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return y
