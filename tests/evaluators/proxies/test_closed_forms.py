"""Proxies on records and small nets whose score can be written down."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators.passes import Confidence, Isometry, Matrix, Passes, Points, Signs, collect
from evaluators.passes.observing import Observer
from evaluators.passes.positive import log_chain
from evaluators.proxies import (
    PROXIES,
    ActivationDistance,
    AttentionConfidence,
    AzExpressivity,
    AzTrainability,
    Dss,
    GradNorm,
    Grasp,
    HiddenCovariance,
    JacobCosine,
    JacobCov,
    Meco,
    Naswot,
    NtkCond,
    QuantNoise,
    Snip,
    Swap,
    SynflowLog,
)
from evaluators.proxies.jacob_cosine import cosine_score, cosine_score_reference
from evaluators.proxies.meco import sampled, smallest_eigenvalue
from evaluators.proxies.quant_noise import FLOOR
from evaluators.proxies.swap import distinct, distinct_reference
from evaluators.sign_codes import agreement, agreement_reference
from evaluators.spectra import (
    correlation,
    correlation_reference,
    log_eigenvalue_score,
    spectral_entropy,
    spectral_norm,
)
from space.errors import UnsupportedError
from space.roles import ParameterRole


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix(value: Tensor, gradient: Tensor | None, role: str = "mixer.in") -> Matrix:
    return Matrix("w", role, 0, value, gradient)


def signs(codes: list[list[int]]) -> Signs:
    bits = torch.tensor(codes, dtype=torch.bool)
    return Signs(0, bits, bits.double() - 0.5)


class Linear(nn.Module):
    """One matrix with a role; the logits are what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x)
        return y


def test_gradients_of_one_linear_layer_by_hand() -> None:
    """x = (1, 0), target 0: logits (1, 0), softmax (p, 1 - p), dL/dW = (p - 1, 1 - p) outer x."""
    net = Linear()
    points = Points({"map.weight": ParameterRole("ffn.in", 0)}, ends_in_norm=False)
    x, y = np.array([[1.0, 0.0]], dtype=np.float32), np.array([0])
    passes = collect(net, x, y, points=points, needs=frozenset({"gradients", "curvature"}))
    p = 1 / (1 + math.exp(-1))
    assert GradNorm().score(passes).value == pytest.approx(math.sqrt(2) * (1 - p))
    assert Snip().score(passes).value == pytest.approx(1 - p)  # the mask's gradient: W * g
    # Hessian of the loss in W[:, 0] is p (1 - p) (1, -1; -1, 1); g = (p - 1, 1 - p), W[:, 0] = (1, 0)
    assert Grasp().score(passes).value == pytest.approx(2 * p * (1 - p) ** 2)


@pytest.mark.parametrize("depth", [1, 3, 64])
def test_synflow_of_a_chain_is_the_logarithm_of_its_layers_times_its_flow(depth: int) -> None:
    chain = [normal(5, 5, seed=index).abs() for index in range(depth)]
    flow = log_chain([lambda x, w=w: x @ w.T for w in chain], torch.ones(5, dtype=torch.float64))  # type: ignore[misc]  # a default of a lambda
    weights = tuple(matrix(w, None) for w in chain)
    score = SynflowLog().score(Passes(weights, log_flow=flow)).value
    product = torch.ones(5, dtype=torch.float64)
    for weight in chain:
        product = weight @ product
    assert math.isfinite(score)
    assert score == pytest.approx(math.log(depth) + float(product.sum().log()), rel=1e-12)


def test_the_published_flow_of_a_chain_is_its_layers_times_what_comes_out() -> None:
    chain = [normal(4, 4, seed=index).abs().requires_grad_(True) for index in range(3)]
    out = torch.ones(4, dtype=torch.float64)
    for weight in chain:
        out = weight @ out
    gradients = torch.autograd.grad(out.sum(), chain)
    published = sum(float((w.detach() * g).sum()) for w, g in zip(chain, gradients, strict=True))
    flow = log_chain([lambda x, w=w: x @ w.detach().T for w in chain], torch.ones(4, dtype=torch.float64))  # type: ignore[misc]  # a default of a lambda
    assert math.log(published) == pytest.approx(flow + math.log(3))


def test_a_deep_chain_does_not_overflow() -> None:
    flow = log_chain([lambda x: 1e30 * x] * 64, torch.ones(3, dtype=torch.float64))
    assert flow == pytest.approx(64 * 30 * math.log(10) + math.log(3))


@pytest.mark.parametrize("d", [1, 4])
def test_the_diversity_of_identities_is_d_squared_and_fused_parts_add_up(d: int) -> None:
    one = matrix(torch.eye(d), torch.eye(d))
    assert Dss().score(Passes(positive=(one,))).value == pytest.approx(d**2)
    assert Dss().score(Passes(positive=(one,) * 3)).value == pytest.approx(3 * d**2)
    beside = Dss().score(Passes(positive=(one, matrix(torch.eye(d), 2 * torch.eye(d), "head"))))
    assert beside.detail == {"diversity": pytest.approx(d**2), "saliency": pytest.approx(2 * d)}


def test_naswot_of_one_hot_codes() -> None:
    """B = 3 one-hot codes of 3 bits agree in 3 bits with themselves and in 1 with others: det 20."""
    passes = Passes(signs=(signs([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),))
    score = Naswot().score(passes)
    assert score.value == pytest.approx(math.log(20))
    assert score.detail["per_log_bit"] == pytest.approx(math.log(20) / math.log(3))
    assert ActivationDistance().score(passes).value == 9 + 6
    assert ActivationDistance().score(passes).detail["agreement"] == pytest.approx(15 / 27)


def test_examples_with_the_same_code_have_no_naswot() -> None:
    assert math.isnan(Naswot().score(Passes(signs=(signs([[1, 0, 1], [1, 0, 1]]),))).value)


def test_agreement_counts_equal_bits() -> None:
    codes = [normal(4, 30, seed=1) > 0, normal(4, 7, seed=2) > 0]
    assert agreement(codes).tolist() == agreement_reference(codes)


def test_agreement_is_exact_over_many_bits() -> None:
    bits = torch.zeros(2, 2**18 + 3, dtype=torch.bool)
    assert agreement([bits]).tolist() == [[2**18 + 3] * 2] * 2


def test_swap_counts_distinct_patterns() -> None:
    pattern = normal(3, 40) > 0
    assert distinct(pattern) == distinct_reference(pattern)
    passes = Passes(signs=(signs([[1, 0, 1], [0, 0, 0]]),))
    assert Swap().score(passes).value == 2
    assert Swap().score(passes).detail == {"share": pytest.approx(2 / 3)}


def shown(probabilities: Tensor) -> Confidence:
    """What an observer makes of the probabilities of one layer."""
    observer = Observer(nn.Identity(), Points({}), frozenset({"probabilities"}))
    observer.begin(1.0)
    observer._attended(probabilities)
    (found,) = observer.probabilities()
    return found


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        (torch.full((2, 3, 5, 5), 1 / 5), 1 / 5),
        (torch.eye(5).expand(2, 3, 5, 5), 1.0),
        (torch.ones(4, 4).tril() / torch.arange(1.0, 5)[:, None], (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4),
    ],
    ids=["uniform", "one hot", "causal rows"],
)
def test_confidence_in_one_key(probabilities: Tensor, expected: float) -> None:
    full = probabilities.expand(2, 3, *probabilities.shape[-2:])
    assert shown(full).largest_key == pytest.approx(expected)


def test_confidence_of_heads_that_differ() -> None:
    first, second = torch.eye(4), torch.full((4, 4), 1 / 4)
    assert shown(torch.stack([first, second])[None]).largest_head == pytest.approx((4 + 12 / 4) / 16)


def test_layers_without_probabilities_are_a_share_not_a_zero() -> None:
    passes = Passes(probabilities=(Confidence(1, 0.5, 0.25), Confidence(1, 0.7, 0.25)), num_layers=4)
    score = AttentionConfidence().score(passes)
    assert score.value == pytest.approx(0.6)
    assert score.detail == {"conf_head": 0.25, "sum_over_layers": pytest.approx(0.6), "share": 0.25}


@pytest.mark.parametrize("d", [4, 16])
def test_isotropic_features_use_every_direction(d: int) -> None:
    features = normal(64 * d, d)
    assert spectral_entropy(features) == pytest.approx(math.log(d), rel=0.01)
    passes = Passes(features=(features[None], features[None]))
    assert AzExpressivity().score(passes).value == pytest.approx(2 * math.log(d), rel=0.01)


def test_features_in_one_direction_have_no_entropy_and_constant_ones_no_score() -> None:
    line = normal(50, 1) @ normal(1, 6)
    assert spectral_entropy(line) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(spectral_entropy(torch.ones(9, 3)))


class Scale(nn.Module):
    """f(x) = factor * x, as a block."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x if self.factor == 1.0 else self.factor * x


class Stack(nn.Module):
    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.embedded, self.blocks = nn.Identity(), nn.Sequential(*(Scale(one) for one in factors))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.embedded(x)).mean(1)
        return y


def isometry(*factors: float) -> Passes:
    net = Stack(*factors)
    points = Points({}, blocks=tuple(net.blocks), embedded=net.embedded, ends_in_norm=False)
    x = normal(4, 5, 3).float().numpy()
    return collect(net, x, np.zeros(4, dtype=int), points=points, needs=frozenset({"isometry"}))


def test_a_block_that_doubles_is_half_a_point_off_and_one_that_does_nothing_is_left_out() -> None:
    score = AzTrainability().score(isometry(2.0, 1.0))
    assert score.value == pytest.approx(-0.5, abs=1e-5)
    assert score.detail == {"blocks": 1.0}
    with pytest.raises(UnsupportedError, match="no block changes"):
        AzTrainability().score(isometry(1.0, 1.0))


def test_a_turn_carries_gradients_back_at_their_size() -> None:
    turn, _ = torch.linalg.qr(normal(8, 8))
    sent = torch.eye(8, dtype=torch.float64)
    score = AzTrainability().score(Passes(isometry=(Isometry(sent, turn, 8, is_identity=False),)))
    assert score.value == pytest.approx(0.0, abs=1e-5)
    assert spectral_norm(turn) == pytest.approx(1.0)


def test_channels_that_outnumber_positions_have_a_smallest_eigenvalue_of_zero() -> None:
    few = normal(12, 8)
    assert smallest_eigenvalue(few) == pytest.approx(0.0, abs=1e-12)
    assert len(sampled(few, seed=0)) == 2
    assert smallest_eigenvalue(sampled(few, seed=0)) > 0.0
    assert Meco().score(Passes(features=(normal(4, 40, 6),))).value > 0.0


def test_orthonormal_gradients_have_condition_one_and_equal_ones_are_capped() -> None:
    eye = torch.eye(5, dtype=torch.float64)
    assert NtkCond().score(Passes(example_gram=eye)).value == pytest.approx(-1.0)
    capped = NtkCond().score(Passes(example_gram=torch.ones_like(eye)))
    assert capped.value == -1e12
    assert capped.detail == {"capped": 1.0}


@pytest.mark.parametrize("rows", [3, 8])
def test_correlations_of_rows(rows: int) -> None:
    table = normal(rows, 30)
    reference = torch.tensor(correlation_reference(table), dtype=torch.float64)
    torch.testing.assert_close(correlation(table), reference, rtol=1e-9, atol=1e-12)


def test_rows_without_correlation_have_the_best_score() -> None:
    apart = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 1)
    apart[:, ::2] *= -1
    best = -4 * (math.log(1 + 1e-5) + 1 / (1 + 1e-5))
    assert log_eigenvalue_score(apart) == pytest.approx(best, rel=1e-6)
    assert log_eigenvalue_score(normal(4, 3)) < best
    assert JacobCov().score(Passes(embedding_gradients=apart)).value == pytest.approx(best, rel=1e-6)


def test_a_constant_row_correlates_with_nothing() -> None:
    assert math.isfinite(log_eigenvalue_score(torch.cat([torch.ones(1, 9), normal(3, 9)])))


def test_the_last_token_speaks_for_a_causal_block() -> None:
    block = normal(6, 7, 5)
    causal = HiddenCovariance().score(Passes(features=(block,), is_causal=True)).value
    assert causal == pytest.approx(log_eigenvalue_score(block[:, -1]))
    both = HiddenCovariance().score(Passes(features=(block, block))).value
    assert both == pytest.approx(2 * log_eigenvalue_score(block.mean(1)))


def test_cosines_pair_by_pair() -> None:
    rows = normal(5, 20)
    assert cosine_score(rows) == pytest.approx(cosine_score_reference(rows), rel=1e-9)
    assert JacobCosine().score(Passes(embedding_gradients=torch.eye(4))).value == 1.0
    assert JacobCosine().score(Passes(embedding_gradients=torch.ones(4, 3))).value == pytest.approx(0.5)


def test_noise_counts_in_decades_down_to_the_rounding_of_float32() -> None:
    assert QuantNoise().score(Passes(noise=(1e-4, 1e-2))).value == pytest.approx(6.0)
    assert QuantNoise().score(Passes(noise=(0.0,))).value == pytest.approx(-math.log10(FLOOR))
    assert math.isnan(QuantNoise().score(Passes(noise=(math.nan,))).value)


@pytest.mark.parametrize("member", PROXIES, ids=lambda member: member.id)
def test_a_network_that_shows_nothing_is_not_supported(member: object) -> None:
    score: Callable[[Passes], object] = member.score  # type: ignore[attr-defined]  # a proxy
    with pytest.raises(UnsupportedError, match=f"{member.id}: "):  # type: ignore[attr-defined]
        score(Passes(num_micro_batches=4))
