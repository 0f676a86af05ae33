"""Sums over pairs: every form against the definition, and the costs of the form that is chosen."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space.kernels.linear_attention import (
    CHUNK,
    SQUARE,
    Chunks,
    PairSums,
    Square,
    TotalState,
    fill_up,
    pair_sums_reference,
    recurrent_reference,
)


def operands(tokens: int, *, key: int = 3, value: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    widths = (key, key, value)
    q, k, v = (
        torch.randn(2, tokens, 2, width, generator=generator, dtype=torch.float64).requires_grad_()
        for width in widths
    )
    return q, k, v


def assert_same(ours: Tensor, reference: Tensor, inputs: tuple[Tensor, ...]) -> None:
    """Values, and gradients of one weighted sum."""
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)
    weights = torch.linspace(-1.0, 1.0, ours.numel(), dtype=torch.float64).reshape(ours.shape)
    gradients = [
        torch.autograd.grad((y * weights).sum(), inputs, retain_graph=True) for y in (ours, reference)
    ]
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 4, 12])
def test_chunks_recurrence_and_square_equal_the_definition(size: int) -> None:
    inputs = operands(12)
    reference = pair_sums_reference(*inputs, causal=True)
    assert_same(Chunks(2, 3, 4, size=size).double()(*inputs), reference, inputs)
    assert_same(Square(True)(*inputs), reference, inputs)
    assert_same(recurrent_reference(*inputs), reference, inputs)


def test_both_ways_the_state_and_the_square_equal_the_definition() -> None:
    inputs = operands(7)
    reference = pair_sums_reference(*inputs, causal=False)
    for form in (TotalState(), Square(False)):
        assert_same(form(*inputs), reference, inputs)


def test_filled_up_tokens_are_zeros_behind() -> None:
    rows = torch.ones(2, 5, 3)
    filled = fill_up(rows, 4, 3)
    assert filled.shape == (2, 8, 3)
    assert torch.equal(filled[:, :5], rows)
    assert not filled[:, 5:].any()
    assert fill_up(rows, 5, 3) is rows


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("context", [1, 3, SQUARE, SQUARE + 1, 100])
def test_the_counted_products_are_those_of_the_form(causal: bool, context: int) -> None:
    sums = PairSums(causal, context, num_heads=2, key_width=6, value_width=4)
    for tokens in {1, context // 2 + 1, context}:
        q, k = torch.zeros(2, 1, sums.padded(tokens), 2, 6)
        with FlopCounterMode(display=False) as counter:
            module: nn.Module = sums.build()
            module(q, k, torch.zeros(1, sums.padded(tokens), 2, 4))
        assert counter.get_total_flops() == 2 * sums.macs(tokens)
        assert sums.macs_causal(tokens) <= sums.macs(tokens)


def test_a_form_is_chosen_by_the_context_length() -> None:
    def form(causal: bool, context: int) -> str:
        return PairSums(causal, context, num_heads=1, key_width=16, value_width=16).form

    assert [form(True, context) for context in (1, SQUARE, SQUARE + 1)] == ["square", "square", "chunks"]
    assert [form(False, context) for context in (15, 16, 1000)] == ["square", "state", "state"]
    assert PairSums(True, 100, 1, 16, 16).padded(33) == 2 * CHUNK


def test_the_pairs_that_a_mask_forbids_are_left_out() -> None:
    square = PairSums(True, 10, num_heads=1, key_width=2, value_width=3)
    assert square.macs_causal(4) == (1 + 2 + 3 + 4) * 5
    chunks = PairSums(True, 100, num_heads=1, key_width=2, value_width=3)
    inside = CHUNK * (CHUNK + 1) // 2 * 5
    assert chunks.macs_causal(2 * CHUNK) == 2 * inside + 2 * CHUNK * 2 * 6
