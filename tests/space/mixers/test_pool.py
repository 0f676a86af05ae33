"""Pooling: identities, its definition on sequences and images, decoding from any number of real tokens."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from space.choice import Mixer, Surroundings
from space.mixers.pool import GAIN, Pool, PoolConfig, pool_reference
from space.positions import NonePositionConfig

GRID = (3, 5)


def around(*, causal: bool, grid: tuple[int, int] | None = None) -> Surroundings:
    position = NonePositionConfig()
    return Surroundings(
        d_model=6, context_length=20, num_layers=1, causal=causal, position=position, grid=grid
    )


def built(width: int, at: Surroundings) -> Pool:
    module = PoolConfig(width=width).build(at).double()
    nn.init.normal_(module.gain, generator=torch.Generator().manual_seed(7))
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


PLACES = pytest.mark.parametrize(
    "at",
    [around(causal=True), around(causal=False), around(causal=False, grid=GRID)],
    ids=["causal", "both", "image"],
)


@PLACES
@pytest.mark.parametrize("width", [1, 3, 5, 9])
@pytest.mark.parametrize("is_padded", [False, True])
def test_pool_equals_its_definition(at: Surroundings, width: int, is_padded: bool) -> None:
    module = built(width, at)
    x = random(2, 15, 6).requires_grad_()
    mask = torch.rand(2, 15, generator=torch.Generator().manual_seed(1)) < 0.7 if is_padded else None
    fast = module(x, mask)
    slow = pool_reference(x, width, module.gain, causal=at.causal, grid=at.grid, mask=mask)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    direction = random(2, 15, 6)
    gradients = (torch.autograd.grad((y * direction).sum(), (x, module.gain)) for y in (fast, slow))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@PLACES
def test_pooling_a_constant_gives_zero(at: Surroundings) -> None:
    y = built(5, at)(torch.full((2, 15, 6), 3.0, dtype=torch.float64))
    torch.testing.assert_close(y, torch.zeros_like(y), rtol=0, atol=1e-12)


@PLACES
def test_a_window_of_one_token_gives_zero(at: Surroundings) -> None:
    x = random(2, 15, 6)
    assert torch.equal(built(1, at)(x), torch.zeros_like(x))


@PLACES
def test_a_token_sees_its_window_and_nothing_else(at: Surroundings) -> None:
    module, width = built(3, at), 3
    for i in (1, 7, 14):
        x = random(1, 15, 6).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
        seen = {j for j in range(15) if gradient[0, j].abs().sum() > 0}
        if at.grid is not None:
            inside = {j for j in range(15) if abs(i // 5 - j // 5) <= 1 and abs(i % 5 - j % 5) <= 1}
        else:
            last = i if at.causal else min(14, i + width // 2)
            inside = set(range(max(0, i - (width - 1 if at.causal else width // 2)), last + 1))
        assert seen == inside
        assert max(abs(i - j) for j in seen) <= PoolConfig(width=width).reach(at)


def test_the_mean_divides_by_the_number_of_real_tokens() -> None:
    module = built(3, around(causal=False))
    with torch.no_grad():
        module.gain.fill_(1.0)
    x = torch.tensor([1.0, 100.0, 4.0, 6.0], dtype=torch.float64)[None, :, None].expand(1, 4, 6)
    mask = torch.tensor([[True, False, True, True]])
    expected = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    assert torch.equal(module(x, mask)[0, mask[0], 0], expected)


def test_an_image_pools_in_two_dimensions() -> None:
    x = random(1, 15, 6)
    along = built(3, around(causal=False))(x)
    image = built(3, around(causal=False, grid=GRID))(x)
    assert not torch.allclose(along, image)
    one_row = built(3, around(causal=False, grid=(1, 15)))(x)
    torch.testing.assert_close(one_row, along, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 9])
def test_the_fast_prefill_keeps_what_the_slow_one_keeps(width: int) -> None:
    module, x = built(width, around(causal=True)), random(3, 6, 6)
    tokens = torch.arange(6)
    right = tokens[None] < torch.tensor([6, 2, 0])[:, None]
    left = tokens[None] >= torch.tensor([0, 4, 6])[:, None]
    for mask in (None, right, left):
        _, fast = module.prefill(x, mask)
        _, slow = Mixer.prefill(module, x, mask)
        assert {name: value.tolist() for name, value in fast.items()} == {
            name: value.tolist() for name, value in slow.items()
        }


def test_a_masked_step_leaves_the_state_and_the_mean_counts_real_tokens_only() -> None:
    module = built(5, around(causal=True))
    x = random(2, 4, 6)
    state = module.init_state(2, dtype=torch.float64)
    _, state = module.step(x[:, :1], state, torch.tensor(0))
    padded = torch.tensor([[True], [False]])
    _, after = module.step(x[:, 1:2], state, torch.tensor(1), padded)
    assert torch.equal(after["inputs"][1], state["inputs"][1])
    assert after["count"].tolist() == [[2.0], [1.0]]
    y, _ = module.step(x[:, 2:3], after, torch.tensor(2))
    expected = module.gain * ((x[1, 0] + x[1, 2]) / 2 - x[1, 2])
    torch.testing.assert_close(y[1, 0], expected, rtol=1e-12, atol=1e-12)


def test_the_gains_start_small_and_are_counted() -> None:
    at = around(causal=True)
    module = PoolConfig(width=3).build(at)
    assert module.gain.tolist() == pytest.approx([GAIN] * 6)
    assert PoolConfig(width=3).params(at) == 6
    assert PoolConfig(width=3).macs(at, 10) == 0


@pytest.mark.parametrize(("grid", "expected"), [(None, 6 * (3 * 15 + 4)), (GRID, 6 * (3 * 15 + 4 * 5))])
def test_activation_peak_is_input_padded_copy_and_sum(grid: tuple[int, int] | None, expected: int) -> None:
    # on the grid the rows are padded first (3 of 5 + 4), then 5 columns of 3 + 4, which is more
    assert PoolConfig(width=5).activation_size(around(causal=False, grid=grid), 15) == expected


def test_an_even_pooling_window_is_refused_with_the_next_odd_one() -> None:
    with pytest.raises(ValidationError, match="choose 5"):
        PoolConfig(width=4)
