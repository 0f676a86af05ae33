"""Kernels against the float64 definition: on the GPU where there is one, else in Triton's interpreter.

Fresh memory is filled with NaN, so that a number nobody wrote shows. The interpreter computes bf16 wrongly:
that type is tested on a GPU only.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

TOLERANCES = {torch.float32: (2e-5, 2e-5), torch.float16: (4e-3, 4e-3), torch.bfloat16: (3e-2, 3e-2)}
"""Relative, absolute. Inputs are rounded first; what is left is the rounding of results and, of 16-bit types,
of operands of products."""

Form = Callable[..., Tensor | tuple[Tensor, ...]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them are tests of the GPU where there is one."""
    for item in items:
        if DEVICE == "cuda" and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(
    params=[
        torch.float32,
        torch.float16,
        pytest.param(
            torch.bfloat16,
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter computes bf16 wrongly"),
            ],
        ),
    ],
    ids=["fp32", "fp16", "bf16"],
)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    kind = request.param
    assert isinstance(kind, torch.dtype)
    return kind


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """Normal numbers on the device; `strided`: a view whose rows lie apart in memory."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int, dtype: torch.dtype = torch.float32, strided: bool = False) -> Tensor:
        numbers = torch.randn(*shape, generator=generator).to(DEVICE, dtype)
        if not strided:
            return numbers
        room = torch.full((*shape[:-1], 2 * shape[-1] + 3), float("nan"), device=DEVICE, dtype=dtype)
        room[..., 1 : shape[-1] + 1] = numbers
        return room[..., 1 : shape[-1] + 1]

    return drawn


@pytest.fixture
def agree() -> Callable[..., None]:
    """Asserts that a kernel gives the values and gradients of its twin in float64."""

    def check(
        kernel: Form,
        twin: Form,
        inputs: Sequence[Tensor | None],
        *,
        tolerance: float = 1.0,
        grad: bool = True,
    ) -> None:
        first = next(part for part in inputs if part is not None)
        relative, absolute = (tolerance * bound for bound in TOLERANCES[first.dtype])
        exact = [None if part is None else part.detach().double() for part in inputs]
        wanted, wanted_grads = with_gradients(twin, exact, first.dtype, grad=grad)
        got, got_grads = with_gradients(kernel, inputs, first.dtype, grad=grad)
        for a, b in zip(got + got_grads, wanted + wanted_grads, strict=True):
            scale = max(1.0, float(b.abs().max()))
            torch.testing.assert_close(a.double(), b, rtol=relative, atol=absolute * scale)

    return check


def with_gradients(
    form: Form, inputs: Sequence[Tensor | None], rounded_to: torch.dtype, *, grad: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Results, and gradients of every input for random gradients of the results, the same for both forms."""
    parts = [part if part is None else part.detach().requires_grad_(grad) for part in inputs]
    result = form(*parts)
    results = [result] if isinstance(result, Tensor) else list(result)
    if not grad:
        return [one.detach() for one in results], []
    generator = torch.Generator().manual_seed(1)
    pulls = [
        torch.randn(one.shape, generator=generator).to(rounded_to).to(one.device, one.dtype)
        for one in results
    ]
    leaves = [part for part in parts if part is not None]
    grads = torch.autograd.grad(results, leaves, pulls)
    return [one.detach() for one in results], list(grads)
