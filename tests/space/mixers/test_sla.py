"""Simplified linear attention: the module against the definition, its convolution, its table."""

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.layer_options import mixer_config
from space.mixers import SlaConfig
from space.mixers.sla import Sla, sla_reference
from space.positions import POSITIONS


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def there(
    *,
    causal: bool = True,
    context: int = 70,
    grid: tuple[int, int] | None = None,
    position: str = "none",
    d_model: int = 8,
) -> Surroundings:
    return Surroundings(
        d_model, context, num_layers=2, causal=causal, position=POSITIONS[position](), grid=grid
    )


def built(config: SlaConfig, at: Surroundings) -> Sla:
    torch.manual_seed(0)
    module = config.build(at).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


@pytest.mark.parametrize(
    ("causal", "context", "tokens", "grid"),
    [(True, 20, 9, None), (True, 70, 37, None), (False, 20, 9, None), (False, 12, 12, (3, 4))],
)
@pytest.mark.parametrize("table", [True, False])
def test_the_module_equals_the_definition_in_values_and_gradients(
    causal: bool, context: int, tokens: int, grid: tuple[int, int] | None, table: bool
) -> None:
    config = SlaConfig(num_heads=2, conv_width=3, position_table=table)
    module = built(config, there(causal=causal, context=context, grid=grid))
    x = random(1, tokens, 8).requires_grad_()
    mask = torch.ones(1, tokens, dtype=torch.bool)
    mask[:, -1] = False
    q, k, v = module.qkv(x).split(8, dim=-1)
    if module.table is not None:
        k = k + module.table[:tokens]
    q, k, v = (part.reshape(1, tokens, 2, 4) for part in (q, k, v))
    kernel = module.conv.kernel[:, 0]
    mixed = sla_reference(q, k, v, kernel, module.conv.bias, causal=causal, grid=grid, mask=mask)
    ours, reference = module(x, mask)[:, :-1], module.out(mixed.flatten(2))[:, :-1]
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)
    inputs = [x, *module.parameters()]
    for got, wanted in zip(
        *(torch.autograd.grad((y**2).sum(), inputs, retain_graph=True) for y in (ours, reference)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9)


def test_the_square_is_taken_where_it_is_less_work() -> None:
    config = SlaConfig(num_heads=1)
    assert config.sums(there(causal=False, context=7)).form == "square"
    assert config.sums(there(causal=False, context=8)).form == "state"


def test_the_table_starts_at_zero_and_is_left_out_where_tokens_carry_positions() -> None:
    module = SlaConfig(num_heads=2).build(there())
    assert module.table is not None
    assert not module.table.any()
    genes: dict[str, str | int] = {"mixer": "sla", "head_width": 8}
    assert mixer_config(genes, there()) == SlaConfig(num_heads=1)
    assert mixer_config(genes, there(position="learned")) == SlaConfig(num_heads=1, position_table=False)


def test_costs_are_those_of_the_formulas() -> None:
    config, d, h, w, n = SlaConfig(num_heads=2), 8, 4, 5, 128
    at, image = there(context=n), there(context=n, causal=False, grid=(8, 16))
    assert config.params(at) == 4 * d**2 + n * d + h * (w + 1)
    assert config.params(image) == 4 * d**2 + n * d + h * (w**2 + 1)
    assert config.macs(there(context=n, causal=False), n) == 4 * n * d**2 + 2 * n * d * h + n * d * w
    assert config.macs(image, n) == 4 * n * d**2 + 2 * n * d * h + n * d * w**2
    assert config.state_size(at, n) == d * (h + 1) + (w - 1) * d
    assert config.macs_decode(at, n) == 4 * d**2 + 2 * d * h + d * w


def test_rows_of_an_image_do_not_run_into_each_other() -> None:
    """The last token of a row and the first of the next are neighbours in a line, not on the grid."""
    module = built(SlaConfig(num_heads=2, conv_width=3), there(causal=False, context=12, grid=(3, 4)))
    v = random(1, 12, 2, 4).requires_grad_()
    (seen,) = torch.autograd.grad(module.conv(v)[0, 3].sum(), v)
    reached = [j for j in range(12) if seen[0, j].any()]
    assert reached == [2, 3, 6, 7]
