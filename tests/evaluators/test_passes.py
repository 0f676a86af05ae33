"""The shared passes on nets small enough to compute by hand, and what they leave behind."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from evaluators.passes import (
    MAX_ROWS,
    MAX_TOKENS,
    SAMPLED_UNITS,
    FeedForwardPoint,
    GradientMoments,
    Need,
    Passes,
    Points,
    collect,
    probe_size,
    stacked_moments,
    task_loss,
)
from space.errors import InvalidInputError
from space.roles import ParameterRole

ALL: frozenset[Need] = frozenset({"hidden", "gradients"})
ROLES = {
    "wide.weight": ParameterRole("mixer.in", 0, (4, 2, 2)),
    "wide.bias": ParameterRole("mixer.in", 0),
    "into.weight": ParameterRole("ffn.in", 0),
    "out.weight": ParameterRole("ffn.out", 0),
    "norm.weight": ParameterRole("norm", 0),
    "head.weight": ParameterRole("head"),
}


class Net(nn.Module):
    """Two matrices with roles, a hook point, dropout and a buffer that training mode would change."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.wide = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.into = nn.Linear(8, width, bias=False)
        self.hidden = nn.Identity()
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(width, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.wide(x).transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(self.out(self.drop(self.hidden(self.into(y).relu()))).mean(1))
        return logits


def data(examples: int = 16, tokens: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, tokens, 6)).astype(np.float32)
    return x, rng.integers(0, 3, examples)


def points(net: Net) -> Points:
    return Points(ROLES, (FeedForwardPoint(net.into, net.hidden),), ends_in_norm=False)


def run(
    net: Net,
    needs: frozenset[Need] = ALL,
    *,
    examples: int = 16,
    tokens: int = 5,
    num_micro_batches: int = 4,
) -> Passes:
    x, y = data(examples, tokens)
    return collect(net, x, y, points=points(net), needs=needs, num_micro_batches=num_micro_batches)


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [4.0, 4.0, 4.0, 3.0], [1.0]])
def test_moments_in_one_sweep_equal_their_definition(weights: list[float]) -> None:
    gradients = torch.randn(
        len(weights), 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    moments = GradientMoments()
    for gradient, weight in zip(gradients, weights, strict=True):
        moments.add(gradient, weight)
    expected = stacked_moments(gradients, torch.tensor(weights, dtype=torch.float64))
    for fast, slow in zip((moments.mean, moments.mean_abs, moments.std), expected, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


def test_equal_gradients_deviate_by_exactly_zero() -> None:
    gradient = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    moments = GradientMoments()
    for weight in (0.3, 0.2, 0.5):
        moments.add(gradient, weight)
    assert torch.count_nonzero(moments.std) == 0
    assert torch.equal(moments.mean, gradient)


@pytest.mark.parametrize("examples", [16, 15, 3])
def test_the_gradient_is_that_of_the_whole_batch(net: Net, examples: int) -> None:
    passes = run(net, examples=examples)
    x, y = data(examples)
    net.eval()
    loss = cross_entropy(net(torch.tensor(x)), torch.tensor(y))
    names = ("wide.weight", "into.weight", "out.weight")
    whole = dict(
        zip(names, torch.autograd.grad(loss, [net.get_parameter(name) for name in names]), strict=True)
    )
    assert passes.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    gathered: dict[str, list[Tensor]] = {}
    for matrix in passes.matrices:
        assert matrix.gradient is not None
        gathered.setdefault(matrix.name.partition("[")[0], []).append(matrix.gradient)
    for name, parts in gathered.items():
        # float32 sums in another order
        torch.testing.assert_close(torch.cat(parts), whole[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("silent", [slice(0, 3), slice(0, 4), slice(5, 9)])
def test_targets_that_ask_nothing_have_no_share(net: Net, silent: slice) -> None:
    """A micro-batch counts by its targets, whole ones without any included."""
    x, y = data()
    y[silent] = -100
    passes = collect(net, x, y, points=points(net), needs=ALL)
    net.eval()
    loss = cross_entropy(net(torch.tensor(x)), torch.tensor(y))
    (whole,) = torch.autograd.grad(loss, [net.out.weight])
    assert passes.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    (own,) = (matrix for matrix in passes.matrices if matrix.name == "out.weight")
    torch.testing.assert_close(own.gradient, whole, rtol=1e-5, atol=1e-7)
    assert own.gradient_std is not None
    assert torch.isfinite(own.gradient_std).all()


def test_doubling_the_micro_batches_leaves_gradients_unchanged(net: Net) -> None:
    four, eight = run(net, num_micro_batches=4), run(net, num_micro_batches=8)
    for a, b in zip(four.matrices, eight.matrices, strict=True):
        assert a.gradient is not None
        assert b.gradient is not None
        torch.testing.assert_close(a.gradient, b.gradient, rtol=1e-5, atol=1e-7)


def test_only_matrices_of_mixers_and_feed_forwards_are_kept_and_fused_ones_come_apart(net: Net) -> None:
    passes = run(net)
    assert [(m.name, tuple(m.value.shape)) for m in passes.matrices] == [
        ("wide.weight[0]", (4, 6)),
        ("wide.weight[1]", (2, 6)),
        ("wide.weight[2]", (2, 6)),
        ("into.weight", (12, 8)),
        ("out.weight", (8, 12)),
    ]
    torch.testing.assert_close(passes.matrices[1].value, net.wide.weight[4:6].detach(), rtol=0, atol=0)


def test_hidden_rows_are_the_activations_in_order(net: Net) -> None:
    (hidden,) = run(net).hidden
    x, _ = data()
    net.eval()
    with torch.no_grad():
        rows = net.into(net.norm(net.wide(torch.tensor(x)).transpose(1, 2)).transpose(1, 2)).relu()
    # blocked matrix products of 4 and of 16 examples round differently
    torch.testing.assert_close(hidden.rows, rows.flatten(0, 1), rtol=1e-5, atol=1e-6)


def test_forwards_go_on_until_there_are_four_rows_per_unit(net: Net) -> None:
    assert run(Net(24), examples=200).hidden[0].rows.shape == (100, 24)  # 16 examples of 5 tokens are 80 rows
    assert run(net, examples=200).hidden[0].rows.shape == (80, 12)


def test_very_wide_layers_are_sampled_and_rows_are_bounded() -> None:
    (hidden,) = run(Net(2049), frozenset({"hidden"}), examples=32, tokens=256).hidden
    assert hidden.rows.shape == (MAX_ROWS, SAMPLED_UNITS)
    assert hidden.d_ff == 2049


def test_long_sequences_are_cut(net: Net) -> None:
    (hidden,) = run(net, frozenset({"hidden"}), examples=4, tokens=MAX_TOKENS + 9).hidden
    assert len(hidden.rows) == 4 * MAX_TOKENS


def test_without_gradients_no_backward_runs(net: Net) -> None:
    passes = run(net, frozenset({"hidden"}))
    assert all(matrix.gradient is None for matrix in passes.matrices)
    assert torch.equal(passes.hidden[0].rows, run(net).hidden[0].rows)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_state_are_bit_for_bit_as_before(net: Net, training: bool) -> None:
    net.train(training)
    net.drop.train(not training)
    net.into.weight.requires_grad_(False)
    net.head.bias.grad = torch.ones(3)
    before, flags = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    gradients = [(p.requires_grad, p.grad) for p in net.parameters()]
    random_state = torch.get_rng_state()
    run(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == flags
    assert [(p.requires_grad, p.grad) for p in net.parameters()] == gradients
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_failure_in_the_middle_leaves_the_model_as_before(net: Net) -> None:
    x, y = data()
    with pytest.raises(RuntimeError):
        collect(net, x[..., :4], y, points=points(net), needs=ALL)
    assert net.training
    assert not net.hidden._forward_hooks


def test_gradients_are_found_inside_no_grad(net: Net) -> None:
    with torch.no_grad():
        passes = run(net)
    assert passes.matrices[0].gradient is not None
    assert bool(passes.matrices[0].gradient.any())


def test_read_only_arrays_are_welcome(net: Net) -> None:
    x, y = data()
    x.flags.writeable = y.flags.writeable = False
    collect(net, x, y, points=points(net), needs=ALL)


def test_a_probe_batch_without_labels_for_every_input_is_refused(net: Net) -> None:
    x, y = data()
    with pytest.raises(InvalidInputError, match="16 inputs and 15 targets"):
        collect(net, x, y[:15], points=points(net), needs=ALL)


def test_the_task_loss_of_a_language_model_is_the_mean_over_positions() -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(12).view(3, 4) % 5
    picked = logits.log_softmax(-1).gather(-1, targets[..., None])
    torch.testing.assert_close(task_loss(logits, targets), -picked.mean())


def test_short_sequences_want_more_examples() -> None:
    assert [probe_size(tokens) for tokens in (1, 16, 128, 4096)] == [8192, 512, 64, 16]


def test_a_sum_of_outputs_behind_a_norm_pulls_on_nothing() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 7, 16, dtype=torch.float64, generator=g, requires_grad=True)
    y = torch.nn.functional.layer_norm(x, (16,))
    direction = torch.randn(y.shape, dtype=torch.float64, generator=g)
    (from_sum,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (from_projection,) = torch.autograd.grad((direction * y).sum(), x)
    assert float(from_sum.abs().sum()) < 1e-6 * float(from_projection.abs().sum())
