"""Biases of scores by distance: slopes, rates, buckets, and the matrices built from them."""

from collections.abc import Iterator

import pytest
import torch

from space.choice import PositionChoice, Surroundings
from space.kernels.attention import FORBIDDEN, ScoreBias, score_bias
from space.mixers import SoftmaxConfig
from space.positions import AlibiConfig, DecayConfig, NonePositionConfig, RopeConfig, T5BiasConfig
from space.positions.additive_bias import DistancePenalty, penalty_reference, relative_bias
from space.positions.alibi import alibi_slopes
from space.positions.decay import decay_rates
from space.positions.t5_bias import T5Bias, bucket

ADDITIVE = (AlibiConfig(), DecayConfig(), DecayConfig(initial=1, heads_range=3), T5BiasConfig())
every_bias = pytest.mark.parametrize("position", [NonePositionConfig(), *ADDITIVE], ids=str)
both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])


@pytest.fixture(autouse=True)
def same_tables() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def around(position: PositionChoice, *, causal: bool, context: int = 40) -> Surroundings:
    return Surroundings(d_model=16, context_length=context, num_layers=2, causal=causal, position=position)


def test_slopes_of_eight_and_twelve_heads() -> None:
    eight = [2.0**-k for k in range(1, 9)]
    assert alibi_slopes(8).tolist() == eight
    twelve = [*eight, *(2.0 ** -(k + 0.5) for k in range(4))]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(twelve, dtype=torch.float64))


def test_penalty_is_linear_in_the_distance_to_both_sides() -> None:
    slopes = torch.tensor([0.5, 0.25])
    bias = score_bias(4, causal=False, relative=DistancePenalty(slopes))
    assert torch.equal(bias, penalty_reference(slopes, 4))
    assert bias[0].tolist() == [[-0.5 * abs(i - j) for j in range(4)] for i in range(4)]


def test_rates_grow_from_head_to_head() -> None:
    rates = decay_rates(4, 2.0, 4.0)
    assert rates.tolist() == [1 - 2.0**-2, 1 - 2.0**-3, 1 - 2.0**-4, 1 - 2.0**-5]


@both_ways
def test_decay_is_alibi_with_the_slopes_minus_log_gamma(causal: bool) -> None:
    at = around(DecayConfig(), causal=causal)
    slopes = -torch.log(decay_rates(4, 2.0, 4.0))
    expected = score_bias(9, causal=causal, relative=DistancePenalty(slopes))
    assert torch.equal(ScoreBias(at, 4)(torch.zeros(1, 4, 9, 2)), expected)
    by_definition = penalty_reference(slopes.float(), 9)
    permitted = expected > FORBIDDEN / 2
    torch.testing.assert_close(expected[permitted], by_definition[permitted])


@pytest.mark.parametrize(
    ("causal", "relative", "expected"),
    [
        (True, [0, -1, -15, -16, -20, -31, -64, -127, -128, -500], [0, 1, 15, 16, 17, 21, 26, 31, 31, 31]),
        (True, [1, 500], [0, 0]),
        (False, [-200, -8, -1, 0, 1, 7, 8, 127, 200], [15, 8, 1, 0, 17, 23, 24, 31, 31]),
    ],
)
def test_buckets_of_the_design(causal: bool, relative: list[int], expected: list[int]) -> None:
    assert [bucket(r, causal=causal) for r in relative] == expected
    module = T5Bias(1, causal=causal)
    with torch.no_grad():
        module.table.copy_(torch.arange(32.0)[:, None])
    assert module(-torch.tensor(relative))[0].tolist() == expected


@every_bias
@both_ways
@pytest.mark.parametrize("window", [None, 5])
def test_every_form_gives_the_same_numbers(
    position: PositionChoice, causal: bool, window: int | None
) -> None:
    """Kept square, square by diagonals, one row, pairs; and a shorter sequence."""
    kept = ScoreBias(around(position, causal=causal), 4, window=window)
    square = score_bias(9, causal=causal, relative=kept.relative, window=window)
    like = torch.zeros(2, 4, 9, 3)
    assert torch.equal(kept(like), square)
    kept.cached = None
    kept.is_small = False
    assert torch.equal(kept(like), square)
    keys = torch.arange(9)
    for t in range(9):
        assert torch.equal(kept.row(torch.tensor(t), keys), square[:, t : t + 1])
    some = torch.tensor([4, 0, 7])
    assert torch.equal(kept.between(some, keys), square[:, some])


@every_bias
@both_ways
def test_tokens_may_stand_apart(position: PositionChoice, causal: bool) -> None:
    """Every third token of a sequence, for attention along the columns of a sequence cut into rows."""
    at = around(position, causal=causal)
    apart, whole = ScoreBias(at, 4, length=5, stride=3), ScoreBias(at, 4)
    like = torch.zeros(1, 4, 15, 2)
    assert torch.equal(apart(like[:, :, :5]), whole(like)[:, ::3, ::3])


def test_a_long_context_computes_the_bias_it_does_not_keep() -> None:
    long = ScoreBias(around(AlibiConfig(), causal=True, context=1100), 4)
    short = ScoreBias(around(AlibiConfig(), causal=True, context=100), 4)
    assert long.cached is None
    assert short.cached is not None
    like = torch.zeros(1, 4, 50, 2)
    assert torch.equal(long(like), short(like))


@both_ways
def test_a_table_learns_the_same_whether_by_diagonals_or_by_pairs(causal: bool) -> None:
    bias = ScoreBias(around(T5BiasConfig(), causal=causal), 4)
    assert isinstance(bias.relative, T5Bias)
    seen = torch.rand(4, 30, 30)
    by_pairs = score_bias(30, causal=causal, relative=bias.relative)
    forms = [bias(torch.zeros(1, 4, 30, 2)), by_pairs]
    a, b = (torch.autograd.grad((form * seen).sum(), bias.relative.table)[0] for form in forms)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_layers_with_as_many_heads_share_a_table() -> None:
    at = around(T5BiasConfig(), causal=False)
    four, also_four, two = (SoftmaxConfig(num_heads=heads, num_kv_heads=1).build(at) for heads in (4, 4, 2))
    tables = [module.bias.relative for module in (four, also_four, two)]
    assert tables[0] is tables[1]
    assert tables[0] is not tables[2]
    assert relative_bias(at, 4) is tables[0]
    own = {id(parameter): parameter for module in (four, also_four, two) for parameter in module.parameters()}
    maps = sum(SoftmaxConfig(num_heads=heads, num_kv_heads=1).params(at) for heads in (4, 4, 2))
    mixers = tuple(SoftmaxConfig(num_heads=heads, num_kv_heads=1) for heads in (4, 4, 2))
    assert sum(p.numel() for p in own.values()) == maps + T5BiasConfig().params(at, mixers)
    elsewhere = around(T5BiasConfig(), causal=False)
    assert relative_bias(elsewhere, 4) is not tables[0]


def test_other_choices_add_nothing_to_scores() -> None:
    for position in (NonePositionConfig(), RopeConfig()):
        assert relative_bias(around(position, causal=True), 4) is None
        assert ScoreBias(around(position, causal=False), 4).is_empty
        assert ScoreBias(around(position, causal=True), 4).is_plain_causal
    for additive in ADDITIVE:
        bias = ScoreBias(around(additive, causal=True), 4)
        assert not bias.is_empty
        assert not bias.is_plain_causal
