"""What every kernel owes its callers: an operator as torch wants it, any strides, many rows, far tokens."""

import mmap
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from space.kernels.fused import (
    attention,
    attention_kernels,
    depthwise,
    experts,
    gates,
    int8,
    packed_linear,
    poly_norm,
    poly_relu,
    rms_norm,
    scan,
    scan_kernels,
)
from space.quantization import Fp4Linear, Int4Linear

Draw = Callable[..., Tensor]
Agree = Callable[..., None]
Kernel = tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]

EPS = 1e-6
ENDS = (2, 2, 5)
FASTEST_AXIS_ONLY = 65_535
"""Programs along the second and third axis of a grid; the first takes 2^31 - 1."""


def ends(x: Tensor) -> Tensor:
    return torch.tensor(ENDS, device=x.device)


KERNELS: dict[str, Kernel] = {
    "rms_norm": (
        lambda x, gain: rms_norm.rms_norm(x, gain, EPS),
        lambda x, gain: rms_norm.rms_norm_twin(x, None, gain, EPS, False)[0],
        ((3, 5, 7), (7,)),
    ),
    "crms_norm": (
        lambda x: rms_norm.crms_norm(x, EPS),
        lambda x: rms_norm.rms_norm_twin(x, None, None, EPS, True)[0],
        ((3, 7),),
    ),
    "add_rms_norm": (
        lambda x, branch, gain: rms_norm.add_rms_norm(x, branch, gain, EPS),
        lambda x, branch, gain: rms_norm.rms_norm_twin(x, branch, gain, EPS, False),
        ((3, 5, 7), (3, 5, 7), (7,)),
    ),
    "poly_norm": (poly_norm.poly_norm, poly_norm.poly_norm_twin, ((3, 7), (3,), (1,))),
    "poly_relu": (poly_relu.poly_relu, poly_relu.poly_relu_twin, ((3, 7), (3,), (1,))),
    "gated": (
        lambda packed: gates.gated(packed, "silu"),
        lambda packed: gates.gated_twin(packed, "silu"),
        ((3, 14),),
    ),
    "relu2": (gates.relu2, lambda u: torch.relu(u).square(), ((3, 7),)),
    "window_attention": (
        lambda q, k, v: attention.window_attention(q, k, v, 2, 1),
        lambda q, k, v: attention.window_attention_twin(q, k, v, 2, 1),
        ((2, 4, 5, 3), (2, 2, 5, 3), (2, 2, 5, 3)),
    ),
    "faded_sums": (
        lambda q, k, v, decay, state: scan.faded_sums(q, k, v, -decay.abs(), state),
        lambda q, k, v, decay, state: scan.faded_sums_twin(q, k, v, -decay.abs(), state),
        ((2, 2, 5, 3), (2, 2, 5, 3), (2, 2, 5, 4), (2, 2, 5), (2, 2, 3, 4)),
    ),
    "faded_sums by channel": (
        scan.faded_sums,
        scan.faded_sums_twin,
        ((2, 2, 5, 3), (2, 2, 5, 3), (2, 2, 5, 4), (2, 2, 5, 3), (2, 2, 3, 4)),
    ),
    "depthwise": (
        lambda x, kernel, bias: depthwise.depthwise(x, kernel, bias, 1),
        lambda x, kernel, bias: depthwise.depthwise_twin(x, kernel, bias, 1),
        ((2, 5, 3), (3, 4), (3,)),
    ),
    "expert_linear": (
        lambda x, weight: experts.expert_linear(x, weight, ends(x)),
        lambda x, weight: experts.expert_linear_twin(x, weight, ends(x)),
        ((5, 4), (3, 6, 4)),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
def test_numbers_may_lie_anywhere(name: str, draw: Draw, agree: Agree) -> None:
    """Every other number of a row, and gradients that are one number for all."""
    kernel, twin, shapes = KERNELS[name]
    inputs = [draw(*shape[:-1], 2 * shape[-1])[..., ::2] for shape in shapes]
    agree(kernel, twin, inputs)
    leaves = [part.clone().requires_grad_() for part in inputs]
    found = [
        torch.autograd.grad([one.sum() for one in results_of(form(*leaves))], leaves)
        for form in (kernel, twin)
    ]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_fading_by_channel_may_lie_anywhere_in_a_step(draw: Draw, agree: Agree) -> None:
    q, k, v, state = draw(2, 2, 3), draw(2, 2, 3), draw(2, 2, 4), draw(2, 2, 3, 4)
    fade = -draw(2, 2, 6)[..., ::2].abs()

    def twin(*parts: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, fade = (part[:, :, None] for part in parts[:4])
        y, after = scan.faded_sums_twin(q, k, v, fade, parts[4])
        return y[:, :, 0], after

    agree(scan.faded_step, twin, [q, k, v, fade, state], grad=False)


def results_of(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("name", KERNELS)
def test_one_input_alone_may_be_trained(name: str, draw: Draw) -> None:
    """And nothing is kept, nor asked for, where nobody trains."""
    kernel, twin, shapes = KERNELS[name]
    parts = [draw(*shape) for shape in shapes]
    parts[-1] = parts[-1].abs() if name == "faded_sums by channel" else parts[-1]
    if name == "faded_sums by channel":
        parts[3] = -parts[3].abs()
    with torch.no_grad():
        plain = results_of(twin(*parts))
        for y, wanted in zip(results_of(kernel(*parts)), plain, strict=True):
            torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)
    parts[0].requires_grad_()
    found = [torch.autograd.grad(results_of(form(*parts))[0].sum(), parts[0])[0] for form in (kernel, twin)]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_a_tensor_may_be_given_twice(draw: Draw, agree: Agree) -> None:
    agree(
        lambda x, gain: rms_norm.add_rms_norm(x, x, gain, EPS),
        lambda x, gain: rms_norm.rms_norm_twin(x, x, gain, EPS, False),
        [draw(3, 7), draw(7)],
    )
    agree(
        lambda x: attention.window_attention(x, x, x, 2, 0),
        lambda x: attention.window_attention_twin(x, x, x, 2, 0),
        [draw(1, 2, 9, 4)],
    )


@pytest.mark.parametrize("rows", [16, 17, 40])
def test_packed_weights_take_any_number_of_rows(rows: int, draw: Draw) -> None:
    """The dispatch asks for at most 16, the operator itself has no such limit."""
    x, weight = draw(rows, 64), draw(21, 64)
    four, fp4 = Int4Linear(weight, 32), Fp4Linear(weight)
    y = packed_linear.int4_linear(x, four.codes, four.zeros, four.scale, 32)
    torch.testing.assert_close(y, four(x), rtol=1e-4, atol=1e-4)
    y = packed_linear.fp4_linear(x, fp4.codes, fp4.exponents, 32)
    torch.testing.assert_close(y, fp4(x), rtol=1e-4, atol=1e-4)


class Grids:
    """Stands for device code, and launches nothing."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        self.seen.append(grid)
        return lambda *arguments, **constants: None


def test_a_grid_is_long_along_its_first_axis_only(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    """A launch with more programs along another axis fails."""
    grids = Grids()
    for module, names in (
        (attention_kernels, ("forward", "by_queries", "by_keys")),
        (scan_kernels, ("states", "outputs", "state_gradients", "gradients", "step")),
        (int8, ("_quantize", "_product")),
        (experts, ("_product", "_weight_gradient")),
        (packed_linear, ("_product",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, grids)
    many = draw(1, 1, 1, 1).expand(FASTEST_AXIS_ONLY + 5, 1, 1, 1)
    lse = torch.empty(many.shape[:3], device=many.device)
    attention.window_attention_op(many, many, many, None, 0, 0)
    attention.window_attention_backward_op(many, many, many, many, None, many, lse, 0, 0)
    scan.faded_sums_op(many, many, many, None, None)
    scan.faded_sums_backward_op(many, many, many, many, many, None, many[..., None])
    scan.faded_step_op(many[:, :, 0], many[:, :, 0], many[:, :, 0], None, many)
    rows = draw(1, 1).expand(64 * (FASTEST_AXIS_ONLY + 5), 1)
    experts.expert_linear_op(rows, draw(1, 1, 1), torch.tensor([len(rows)], device=rows.device))
    codes = torch.zeros(1, 1, dtype=torch.int8, device=rows.device)
    int8.int8_linear_op(rows.repeat(2, 1), codes, draw(1), None)
    assert len(grids.seen) == 11
    assert all(side <= FASTEST_AXIS_ONLY for grid in grids.seen for side in grid[1:])
    assert max(grid[0] for grid in grids.seen) > FASTEST_AXIS_ONLY


@pytest.fixture
def far() -> Callable[..., Tensor]:
    """Rows that lie 2^30 numbers apart, in memory of which only these rows are ever touched."""
    if torch.cuda.is_available() or sys.platform != "linux":
        pytest.skip("needs memory that is only promised")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    held = torch.frombuffer(mmap.mmap(-1, 2 * 2**33, flags=flags), dtype=torch.float16)

    def laid(rows: Tensor) -> Tensor:
        # in the middle, so that an offset that goes below zero reads zeros and not somebody else's memory
        own = held.as_strided((1, 1, *rows.shape), (0, 0, 2**30, 1), 2**32)
        return own.copy_(rows)

    return laid


def test_tokens_may_lie_further_apart_than_32_bits_count(far: Callable[..., Tensor], draw: Draw) -> None:
    x = draw(3, 4, dtype=torch.float16)
    away, near = far(x), x[None, None]
    kernel = draw(4, 3, dtype=torch.float16)
    forms: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: attention.window_attention(x, x, x, 3, 0),
        lambda x: scan.faded_sums(x, x, x, None)[0],
        lambda x: depthwise.depthwise(x[0], kernel, None, 0),
    )
    for run in forms:
        torch.testing.assert_close(run(away), run(near), rtol=0.0, atol=0.0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def trained(*shape: int) -> Tensor:
    return random(*shape).requires_grad_()


def codes(*shape: int, dtype: torch.dtype = torch.int8) -> Tensor:
    return torch.ones(shape, dtype=dtype)


OPERATORS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "rms_norm": lambda: (trained(3, 5), trained(3, 5), trained(5), EPS, False),
    "rms_norm_backward": lambda: (random(3, 5), random(3, 5), random(3, 5), random(5), random(3), False),
    "poly_norm": lambda: (trained(3, 5), trained(3), trained(1)),
    "poly_norm_backward": lambda: (random(3, 5), random(3, 5), random(3)),
    "poly_relu": lambda: (trained(3, 5), trained(3), trained(1)),
    "poly_relu_backward": lambda: (random(3, 5), random(3, 5), random(3), random(1)),
    "gated": lambda: (trained(3, 6), "silu", True),
    "gated_backward": lambda: (random(3, 3), random(3, 6), "silu", True),
    "depthwise": lambda: (trained(2, 5, 3), trained(3, 4), trained(3), 0),
    "depthwise_backward": lambda: (random(2, 5, 3), random(2, 5, 3), random(3, 4), 0),
    "expert_linear": lambda: (trained(5, 4), trained(3, 6, 4), torch.tensor(ENDS)),
    "expert_linear_backward": lambda: (random(5, 6), random(5, 4), random(3, 6, 4), torch.tensor(ENDS)),
    "faded_sums": lambda: (*(trained(1, 2, 5, 4) for _ in range(4)), trained(1, 2, 4, 4)),
    "faded_sums_backward": lambda: (
        random(1, 2, 5, 4), random(1, 2, 4, 4), *(random(1, 2, 5, 4) for _ in range(4)), random(1, 2, 1, 4, 4)
    ),
    "faded_step": lambda: (*(random(1, 2, 4) for _ in range(3)), None, random(1, 2, 4, 4)),
    "window_attention": lambda: (*(trained(1, 2, 5, 4) for _ in range(3)), torch.tensor(-0.1), 2, 0),
    "window_attention_backward": lambda: (
        *(random(1, 2, 5, 4) for _ in range(4)), None, random(1, 2, 5, 4), random(1, 2, 5), 2, 0
    ),
    "packed_linear": lambda: (
        random(2, 32), codes(3, 16, dtype=torch.uint8), codes(3, 1, dtype=torch.uint8), random(3, 1), 32
    ),
    "int8_linear": lambda: (random(2, 8), codes(3, 8), random(3), codes(8)),
}  # fmt: skip
WHOLE = ("rms_norm", "gated", "window_attention")
"""Whose gradients are traced with free sizes too, which takes a second each."""


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_what_torch_compile_takes_them_for(name: str) -> None:
    """Nothing changes its inputs, results alias nothing, and fake results have the shapes, types and strides
    of real ones."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments = [
        part.detach().to(device).requires_grad_(part.requires_grad) if isinstance(part, Tensor) else part
        for part in OPERATORS[name]()
    ]
    asked = ("test_schema", "test_autograd_registration", "test_faketensor")
    more = ("test_aot_dispatch_dynamic",) if name in WHOLE else ()
    opcheck(getattr(torch.ops.paretoformer, name).default, tuple(arguments), test_utils=(*asked, *more))


def test_every_operator_is_checked() -> None:
    known = {name.removeprefix("paretoformer::").split(".")[0] for name in operator_names()}
    assert known == OPERATORS.keys()


def operator_names() -> list[str]:
    names: list[str] = torch._C._dispatch_get_all_op_names()
    return [name for name in names if name.startswith("paretoformer::")]
