"""Rows and columns: the definition, one row, a turned grid, what two causal layers reach, decoding."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from space.choice import Mixer, PositionChoice, Surroundings
from space.errors import InvalidArchitectureError
from space.kernels.attention import ScoreBias
from space.mixers import AxialConfig
from space.mixers.axial import AxialShared, AxialSum, axial_reference
from space.mixers.axial_columns import ColumnAttention
from space.mixing.attention import Attention
from space.positions import AlibiConfig, NonePositionConfig, RopeConfig, T5BiasConfig

both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
each_form = pytest.mark.parametrize("form", ["sum", "shared"])


def around(
    *,
    causal: bool,
    position: PositionChoice | None = None,
    context: int = 20,
    grid: tuple[int, int] | None = None,
) -> Surroundings:
    return Surroundings(
        d_model=8,
        context_length=context,
        num_layers=1,
        causal=causal,
        position=position or NonePositionConfig(),
        grid=grid,
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def axial(**fields: Any) -> AxialConfig:
    return AxialConfig(num_heads=4, num_kv_heads=2, **fields)


def built(config: AxialConfig, at: Surroundings) -> Mixer:
    torch.manual_seed(0)
    module = config.build(at).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module


def seen(module: nn.Module, tokens: int, i: int) -> list[int]:
    x = random(1, tokens, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
    return [j for j in range(tokens) if gradient[0, j].abs().sum() > 0]


def bias_of(part: ScoreBias, tokens: int) -> Tensor | None:
    """Of every pair of tokens, whichever of them the part forbids, by the position choice alone."""
    if part.relative is None:
        return None
    token = torch.arange(tokens)
    bias: Tensor = part.relative(token[:, None] - token[None, :])
    return bias


@both_ways
@pytest.mark.parametrize(("columns", "tokens"), [(1, 4), (4, 3), (4, 8), (4, 11), (20, 20)])
def test_each_part_equals_the_masked_square(causal: bool, columns: int, tokens: int) -> None:
    mask = torch.rand(2, tokens, generator=torch.Generator().manual_seed(1)) > 0.3
    for position, real in ((AlibiConfig(), None), (T5BiasConfig(), mask)):
        at = around(causal=causal, position=position)
        module = built(axial(columns=columns), at)
        assert isinstance(module, AxialSum)
        assert isinstance(module.columns, ColumnAttention)
        bias = bias_of(module.columns.bias, tokens)
        for name, part in (("rows", module.rows), ("columns", module.columns)):
            assert isinstance(part, Attention)
            q, k, v = (random(2, heads, tokens, 3, seed=heads + 1).requires_grad_() for heads in (4, 2, 2))
            fast = part.attend(q, k, v, real)
            which: Any = name
            slow = axial_reference(q, k, v, part=which, columns=columns, causal=causal, bias=bias, mask=real)
            torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
            weight = random(*fast.shape, seed=9)
            a, b = (
                torch.autograd.grad((y * weight).sum(), (q, k, v), retain_graph=True) for y in (fast, slow)
            )
            for one, other in zip(a, b, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@both_ways
def test_the_shared_form_sends_values_along_rows_then_down_columns(causal: bool) -> None:
    mask = torch.tensor([[True] * 11, [False] * 3 + [True] * 7 + [False]])
    at = around(causal=causal, position=T5BiasConfig())
    module = built(axial(columns=4, form="shared"), at)
    assert isinstance(module, AxialShared)
    q, k, v = (random(2, heads, 11, 3, seed=heads + 1) for heads in (4, 2, 2))
    bias = bias_of(module.row_bias, 11)
    options: dict[str, Any] = {"columns": 4, "causal": causal, "bias": bias}
    for real in (None, mask):
        along = axial_reference(q, k, v, part="rows", mask=real, **options)
        wide = k.repeat_interleave(2, dim=1)
        down = axial_reference(q, wide, along, part="columns", mask=real, **options)
        torch.testing.assert_close(module.attend(q, k, v, real), down, rtol=1e-9, atol=1e-9)


def test_on_one_row_columns_see_a_single_token() -> None:
    module = built(axial(columns=20), around(causal=False))
    assert isinstance(module, AxialSum)
    for i in (0, 7, 16):
        assert seen(module.columns, 17, i) == [i]
        assert seen(module.rows, 17, i) == list(range(17))


def test_turning_the_grid_swaps_the_parts() -> None:
    wide = built(axial(columns=5), around(causal=False, grid=(4, 5)))
    tall = built(axial(columns=4), around(causal=False, grid=(5, 4)))
    assert isinstance(wide, AxialSum)
    assert isinstance(tall, AxialSum)
    tall.rows.load_state_dict(wide.columns.state_dict())
    tall.columns.load_state_dict(wide.rows.state_dict())
    x = random(2, 20, 8)
    turned = x.reshape(2, 4, 5, 8).transpose(1, 2).flatten(1, 2)
    expected = wide(x).reshape(2, 4, 5, 8).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(tall(turned), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("columns", [1, 3, 4, 20])
def test_causal_layers_reach_what_the_design_says(columns: int) -> None:
    layer = built(axial(columns=columns), around(causal=True))
    pair, shared = (
        nn.Sequential(layer, layer),
        built(axial(columns=columns, form="shared"), around(causal=True)),
    )
    for i in (0, 5, 13):
        window = range(max(0, i - columns + 1), i + 1)
        assert seen(layer, 14, i) == sorted({*window, *range(i % columns, i + 1, columns)})
        assert seen(pair, 14, i) == list(range(i + 1))
        assert seen(shared, 14, i) == list(range(i + 1))


@pytest.mark.parametrize("form", ["sum", "shared"])
def test_both_ways_one_layer_sees_a_cross_and_two_the_whole_grid(form: Any) -> None:
    layer = built(axial(columns=5, form=form), around(causal=False, grid=(4, 5)))
    row, column = set(range(5, 10)), {2, 7, 12, 17}
    assert set(seen(layer, 20, 7)) == (row | column if form == "sum" else set(range(20)))
    assert seen(nn.Sequential(layer, layer), 20, 7) == list(range(20))


@each_form
def test_pairs_are_counted_one_by_one(form: Any) -> None:
    for columns in (1, 4, 20):
        config = axial(columns=columns, form=form)
        for tokens in (1, 4, 11, 20):
            rows = sum(0 <= i - j < columns for i in range(tokens) for j in range(tokens))
            down = sum((i - j) % columns == 0 for i in range(tokens) for j in range(i + 1))
            assert config.mixing_macs_causal(around(causal=True), tokens) == 2 * 8 * (rows + down)
    image = around(causal=False, grid=(4, 5))
    assert axial(columns=5, form=form).mixing_macs(image, 20) == 2 * 8 * 20 * (4 + 5)


@each_form
@pytest.mark.parametrize("position", [NonePositionConfig(), T5BiasConfig(), RopeConfig()], ids=str)
@torch.no_grad()
def test_decoding_goes_on_from_any_prompt(form: Any, position: PositionChoice) -> None:
    """Also where a sequence has padding."""
    at = around(causal=True, position=position)
    config = axial(columns=4, form=form, qkv_dconv=3)
    module = built(config, at)
    x = random(2, 14, 8)
    mask = torch.ones(2, 14, dtype=torch.bool)
    mask[0, :3] = mask[1, 5] = False
    whole = module(x, mask)
    for prompt in (0, 1, 5, 10):
        state = module.init_state(2, dtype=torch.float64)
        if prompt:
            y, state = module.prefill(x[:, :prompt], mask[:, :prompt])
            assert torch.equal(y, module(x[:, :prompt], mask[:, :prompt]))
        for t in range(prompt, 14):
            y, state = module.step(x[:, t : t + 1], state, torch.tensor(t), mask[:, t : t + 1])
            real = mask[:, t]
            torch.testing.assert_close(y[real], whole[real, t : t + 1], rtol=1e-9, atol=1e-9)
        assert sum(value.numel() for value in state.values()) == 2 * config.state_size(at, 14)


@each_form
def test_the_causal_form_does_not_mind_where_a_sequence_starts(form: Any) -> None:
    module = built(axial(columns=4, form=form), around(causal=True, position=T5BiasConfig()))
    x, rubbish = random(2, 11, 8), random(2, 5, 8, seed=3)
    mask = torch.tensor([[False] * 5 + [True] * 11] * 2)
    padded = module(torch.cat([rubbish, x], dim=1), mask)[:, 5:]
    torch.testing.assert_close(padded, module(x), rtol=1e-9, atol=1e-9)


def test_distances_are_tokens_on_a_sequence_and_steps_on_an_image() -> None:
    sequence = built(axial(columns=5), around(causal=False, position=AlibiConfig()))
    image = built(axial(columns=5), around(causal=False, position=AlibiConfig(), grid=(4, 5)))
    distances = []
    for module in (sequence, image):
        assert isinstance(module, AxialSum)
        assert isinstance(module.columns, ColumnAttention)
        square = module.columns.bias(torch.zeros(4, 1))
        distances.append((square[0, 0] / square[0, 0, 1]).tolist())
        assert square[0, 0, 1] == (-0.25 * 5 if module is sequence else -0.25)
    assert distances[0] == distances[1] == [0, 1, 2, 3]


def test_an_image_decides_the_columns_and_the_context_limits_them() -> None:
    image, sequence = around(causal=False, grid=(4, 5)), around(causal=True)
    assert axial(columns=5).canonical(image) == axial(columns=5)
    values = {"num_heads": 4, "num_kv_heads": 2, "columns": 16}
    assert AxialConfig.snapped(values, image)["columns"] == 5
    assert AxialConfig.snapped(values, sequence)["columns"] == 16
    assert AxialConfig.snapped({**values, "columns": 64}, sequence)["columns"] == 20
    for at, wrong, right in ((image, 16, 5), (sequence, 64, 20)):
        with pytest.raises(InvalidArchitectureError, match=f"choose {right}"):
            axial(columns=wrong).check(at)


def test_the_peak_of_live_numbers_on_an_image_is_the_counted_one() -> None:
    """Each list: what is alive while one operator runs, on whole rows and columns."""
    at, n, d, kv, heads = around(causal=False, grid=(4, 5)), 20, 8, 4, 4
    rows, columns = heads * n * 5, heads * n * 4
    one = [[n * d, n * d, n * kv, n * kv], [n * d, n * kv, n * kv, max(rows, columns)]]
    waiting = n * d
    expected = waiting + max(sum(alive) for alive in one)
    assert axial(columns=5).activation_size(at, n) == expected
    along = [n * d, n * kv, n * kv, rows]
    down = [n * d, n * d, n * d, columns]  # queries, keys for every head, what the rows gave
    assert axial(columns=5, form="shared").activation_size(at, n) == max(sum(along), sum(down))
