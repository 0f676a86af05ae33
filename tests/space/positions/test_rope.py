"""Rotation: the definition, distances only, partial and image forms, one token at a time."""

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.errors import InvalidArchitectureError
from space.positions import LearnedPositionConfig, RopeConfig
from space.positions.rope import (
    Rotary,
    Unturned,
    build_rotary,
    grid_tables,
    rotary_tables,
    rotate,
    rotate_reference,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(x: Tensor, first: int = 0, rotary_pct: float = 1.0) -> Tensor:
    tables = rotary_tables(x.shape[2], x.shape[3], first=first, rotary_pct=rotary_pct)
    return rotate(x, *tables, pairs=int(rotary_pct * x.shape[3] / 2))


def around(*, causal: bool, grid: tuple[int, int] | None, rotary_pct: float = 1.0) -> Surroundings:
    return Surroundings(
        d_model=16,
        context_length=12,
        num_layers=1,
        causal=causal,
        position=RopeConfig(rotary_pct=rotary_pct),
        grid=grid,
    )


@pytest.mark.parametrize("rotary_pct", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_rotation_equals_its_definition_pair_by_pair(width: int, rotary_pct: float) -> None:
    x = random(2, 3, 7, width).requires_grad_()
    fast = turned(x, first=4, rotary_pct=rotary_pct)
    slow = rotate_reference(x, first=4, rotary_pct=rotary_pct)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    a, b = (torch.autograd.grad((y**2 * y.detach()).sum(), x)[0] for y in (fast, slow))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rotary_pct", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("width", [4, 5, 8, 9])
def test_an_image_turns_by_row_and_by_column(width: int, rotary_pct: float) -> None:
    x = random(2, 3, 12, width)
    tables = grid_tables((3, 4), width, rotary_pct=rotary_pct)
    fast = rotate(x, *tables, pairs=int(rotary_pct * (width // 2) / 2), axes=2)
    slow = rotate_reference(x, rotary_pct=rotary_pct, columns=4)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [2, 5, 8])
def test_scores_depend_on_the_distance_only(width: int) -> None:
    q, k = random(1, 2, 9, width), random(1, 2, 9, width, seed=1)
    here, there = (turned(q, first) @ turned(k, first).transpose(-1, -2) for first in (0, 1000))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


def test_scores_on_an_image_depend_on_both_differences_only() -> None:
    cos, sin = grid_tables((4, 4), 8)
    q, k = (rotate(random(1, 8, seed=s).expand(16, 8), cos, sin, axes=2, pairs=2) for s in (0, 1))
    scores = q @ k.T
    torch.testing.assert_close(scores[0, 6], scores[9, 15], rtol=1e-9, atol=1e-9)  # one down, two right
    assert not torch.isclose(scores[0, 6], scores[0, 9])  # two down, one right


def test_rotation_keeps_lengths_and_the_first_token() -> None:
    x = random(1, 2, 9, 7)
    y = turned(x)
    pairs = [torch.stack([z[..., k], z[..., k + 3]]).norm(dim=0) for k in range(3) for z in (x, y)]
    for before, after in zip(pairs[::2], pairs[1::2], strict=True):
        torch.testing.assert_close(after, before, rtol=1e-12, atol=0)
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    assert torch.equal(y[..., -1], x[..., -1])  # the channel without partner


def test_a_part_of_the_head_leaves_the_rest_as_it_is() -> None:
    x = random(1, 2, 9, 8)
    y = turned(x, rotary_pct=0.5)
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert not torch.equal(y[..., :4], x[..., :4])


@pytest.mark.parametrize("grid", [None, (3, 4)])
def test_one_token_at_a_time_turns_the_same(grid: tuple[int, int] | None) -> None:
    rotary = build_rotary(around(causal=False, grid=grid, rotary_pct=0.5), 8)
    assert isinstance(rotary, Rotary)
    assert rotary.axes == (2 if grid else 1)
    x = random(2, 3, 12, 8).float()
    steps = [rotary(x[:, :, t : t + 1], torch.tensor(t)) for t in range(12)]
    assert torch.equal(torch.cat(steps, dim=2), rotary(x))
    assert torch.equal(rotary(x[:, :, 5:9], torch.tensor(5)), rotary(x)[:, :, 5:9])


def test_only_rope_turns_and_causal_models_read_images_as_sequences() -> None:
    causal = build_rotary(around(causal=True, grid=(3, 4)), 8)
    assert isinstance(causal, Rotary)
    assert causal.axes == 1
    at = Surroundings(
        d_model=16, context_length=12, num_layers=1, causal=True, position=LearnedPositionConfig()
    )
    other = build_rotary(at, 8)
    assert isinstance(other, Unturned)
    x = random(1, 2, 5, 8)
    assert other(x, torch.tensor(3)) is x


@pytest.mark.parametrize(
    ("width", "rotary_pct", "grid"), [(1, 1.0, None), (7, 0.25, None), (3, 1.0, (3, 4)), (15, 0.25, (3, 4))]
)
def test_heads_too_narrow_to_turn_are_refused(
    width: int, rotary_pct: float, grid: tuple[int, int] | None
) -> None:
    at = around(causal=False, grid=grid, rotary_pct=rotary_pct)
    config = RopeConfig(rotary_pct=rotary_pct)
    with pytest.raises(InvalidArchitectureError, match=f"needs heads of width {width + 1} or more"):
        config.check_head_width(at, width)
    config.check_head_width(at, width + 1)
