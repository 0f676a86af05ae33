"""Linear attention: weights, explicit matrix form, state."""

import torch
from torch import Tensor

from space.mixers.linear_elu import LinearEluConfig, chunked, feature_map, linear_elu_reference


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_constant_values_pass_through_up_to_epsilon() -> None:
    q, k, v = random(2, 3, 7, 4), random(2, 3, 7, 4, seed=1), torch.ones(2, 3, 7, 4, dtype=torch.float64)
    for causal in (True, False):
        torch.testing.assert_close(linear_elu_reference(q, k, v, causal=causal), v, rtol=1e-5, atol=0)


def test_definition_equals_the_normalised_square() -> None:
    q, k, v = (random(2, 3, 7, 4, seed=seed) for seed in range(3))
    scores = (feature_map(q) @ feature_map(k).transpose(-1, -2)).tril()
    square = scores @ v / (scores.sum(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(linear_elu_reference(q, k, v, causal=True), square, rtol=1e-9, atol=1e-12)


def test_every_chunk_width_gives_the_same_numerators() -> None:
    q, k, v = (random(1, 2, 23, 4, seed=seed) for seed in range(3))
    square = (q @ k.transpose(-1, -2)).tril() @ v
    for chunk in (1, 2, 5, 23, 32):
        past = torch.ones(chunk, chunk, dtype=torch.float64).tril()
        torch.testing.assert_close(chunked(q, k, v, past, chunk), square, rtol=1e-9, atol=1e-9)


def test_the_state_does_not_grow_with_the_context() -> None:
    config = LinearEluConfig(num_heads=4)
    assert config.state_size(32, 1) == config.state_size(32, 10_000) == 4 * 8 * (8 + 1)
