"""Packed codes come back, and groups cover a row."""

import pytest
import torch

from space.quantization.packing import in_groups, num_groups, pack, unpack


def test_pack_and_unpack_are_a_bijection() -> None:
    pairs = torch.cartesian_prod(torch.arange(16), torch.arange(16)).to(torch.uint8)
    packed = pack(pairs)
    assert packed.flatten().tolist() == list(range(256))  # the even code in the high half
    assert torch.equal(unpack(packed, 2), pairs)


@pytest.mark.parametrize("codes", [1, 2, 7, 32])
def test_an_odd_row_is_filled_up_with_zero(codes: int) -> None:
    row = torch.randint(0, 16, (3, codes), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    packed = pack(row)
    assert packed.shape == (3, (codes + 1) // 2)
    assert torch.equal(unpack(packed, codes), row)


@pytest.mark.parametrize(("columns", "groups"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_groups_cover_a_row_and_end_in_zeros(columns: int, groups: int) -> None:
    weight = torch.arange(1.0, 2 * columns + 1).view(2, columns)
    pieces = in_groups(weight, 4)
    assert pieces.shape == (2, groups, 4)
    assert num_groups(columns, 4) == groups
    assert torch.equal(pieces.flatten(1)[:, :columns], weight)
    assert not pieces.flatten(1)[:, columns:].any()
