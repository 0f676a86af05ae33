"""Progressive batch normalisation: definition, schedule, masks, running statistics, folded form."""

import pytest
import torch
from torch import Tensor, nn

from space.architecture import parse_architecture
from space.choice import PerChannel, Scheduled
from space.errors import InvalidArchitectureError, InvalidInputError
from space.norms import PRepBNConfig
from space.norms.prepbn import MIXED_UNTIL, PRepBN, prepbn_reference
from space.search_space import load_preset


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lively(d_model: int = 5) -> PRepBN:
    norm = PRepBNConfig().build(d_model).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in norm.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return norm


@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("is_padded", [False, True])
def test_training_equals_the_definition_in_values_and_gradients(fraction: float, is_padded: bool) -> None:
    norm, x = lively(), (3.0 * random(3, 7, 5) + 1.0).requires_grad_()
    mask = torch.arange(7).expand(3, 7) < torch.tensor([[7], [4], [1]]) if is_padded else None
    norm.set_progress(fraction)
    fast, slow = norm(x, mask), prepbn_reference(x, norm, mask)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    inputs = [x, norm.gain, norm.bias, norm.alpha]
    weights = random(3, 7, 5, seed=2)
    gradients = [torch.autograd.grad((weights * y**2).sum(), inputs) for y in (fast, slow)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_without_alpha_and_layer_norm_it_is_batch_norm() -> None:
    norm, batch_norm = lively(), nn.BatchNorm1d(5).double()
    norm.set_progress(1.0)
    with torch.no_grad():
        norm.alpha.zero_()
        batch_norm.weight.copy_(norm.gain)
        batch_norm.bias.copy_(norm.bias)
    for seed in range(60):  # the first batch counts as a whole here, a tenth there
        x = random(300, 5, seed=seed)
        torch.testing.assert_close(norm(x[None])[0], batch_norm(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(norm.mean, batch_norm.running_mean, rtol=0, atol=5e-3)
    torch.testing.assert_close(norm.var, batch_norm.running_var, rtol=0, atol=5e-3)


def test_the_share_of_layer_norm_falls_to_nothing_and_stays_there() -> None:
    norm = lively()
    assert isinstance(norm, Scheduled)
    shares = []
    for fraction in (0.0, MIXED_UNTIL / 2, MIXED_UNTIL, 0.9, 1.0):
        norm.set_progress(fraction)
        shares.append(norm.layernorm_share)
    assert shares == pytest.approx([1.0, 0.5, 0.0, 0.0, 0.0])
    norm.set_progress(0.0)
    x = random(2, 6, 5)
    torch.testing.assert_close(norm(x), norm.layernorm(x), rtol=1e-12, atol=1e-12)


def test_padding_changes_neither_real_tokens_nor_statistics() -> None:
    alone, padded = lively(), lively()
    x, mask = random(2, 6, 5), torch.arange(9).expand(2, 9) < 6
    rubbish = torch.cat([x, 100.0 * random(2, 3, 5, seed=4)], dim=1)
    for norm in (alone, padded):
        norm.set_progress(0.4)
    torch.testing.assert_close(padded(rubbish, mask)[:, :6], alone(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(padded.mean, alone.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(padded.var, alone.var, rtol=1e-12, atol=1e-12)
    nothing = padded(rubbish, torch.zeros(2, 9, dtype=torch.bool))
    assert torch.isfinite(nothing).all()
    assert int(padded.batches) == 1


def test_small_batches_weigh_less_and_the_first_ones_equally() -> None:
    norm = lively()
    means = [random(4, 6, 5, seed=seed).mean((0, 1)) for seed in range(3)]
    for seed in range(3):
        norm(random(4, 6, 5, seed=seed))
    torch.testing.assert_close(norm.mean, torch.stack(means).mean(0), rtol=1e-12, atol=1e-12)
    norm.batches.fill_(10_000)
    before = norm.mean.clone()
    x = random(4, 6, 5, seed=9)
    norm(x)
    moved = before + 0.1 * 24 / 256 * (x.mean((0, 1)) - before)
    torch.testing.assert_close(norm.mean, moved, rtol=1e-12, atol=1e-12)


def test_e5_folded_equals_unfolded_in_evaluation() -> None:
    norm = lively()
    for seed in range(3):
        norm(2.0 * random(4, 6, 5, seed=seed) + 1.0)
    norm.eval()
    assert isinstance(norm, PerChannel)
    x = random(2, 6, 5, seed=5)
    factor, shift = norm.affine()
    torch.testing.assert_close(norm(x), x * factor + shift, rtol=1e-10, atol=1e-10)
    kept = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(x)
    assert all(torch.equal(kept[name], value) for name, value in norm.state_dict().items())


def test_statistics_are_kept_with_the_weights() -> None:
    norm, other = lively(), PRepBNConfig().build(5).double()
    norm(random(4, 6, 5))
    other.load_state_dict(norm.state_dict())
    x = random(2, 3, 5, seed=1)
    torch.testing.assert_close(other.eval()(x), norm.eval()(x))


def test_bf16_keeps_its_type_in_both_modes() -> None:
    norm = PRepBNConfig().build(6).to(torch.bfloat16)
    norm.set_progress(0.3)
    x = torch.ones(2, 3, 6, dtype=torch.bfloat16)
    assert norm(x).dtype == norm.eval()(x).dtype == torch.bfloat16


def test_causal_models_have_none() -> None:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "d_ff": 16},
        "norm": {"kind": "layernorm"},
    }
    point = {
        "model": "decoder",
        "interface": {"input": "bytes", "context_length": 8, "outputs": 256},
        "d_model": 16,
        "position": {"kind": "rope"},
        "layers": [layer],
        "final_norm": {"kind": "layernorm"},
        "head": {"kind": "language"},
    }
    batch = {"kind": "prepbn"}
    with pytest.raises(InvalidArchitectureError, match="final norm 'prepbn' has no causal form"):
        parse_architecture({**point, "final_norm": batch})
    with pytest.raises(InvalidArchitectureError, match="layer 0: norm 'prepbn' has no causal form"):
        parse_architecture({**point, "layers": [{**layer, "norm": batch}]})
    with pytest.raises(InvalidInputError, match="gene 'norm': 'prepbn' has no causal form"):
        load_preset("decoder-small").with_domains({"norm": ["prepbn"]})
