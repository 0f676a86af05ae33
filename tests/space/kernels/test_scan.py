"""The chunk forms of fading sums against the recurrence: values and gradients, float64, every chunk size."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from space.kernels.scan import (
    SCALAR_FLOOR,
    Chunks,
    Growth,
    bounded_sums,
    past_bias,
    scalar_sums,
    selective_scan,
    sized_chunks,
    states_before,
)
from space.mixers.gla import gla_reference
from space.mixers.mamba import mamba_reference
from space.mixing.state_space import softplus_explicit, start_of_steps

TOKENS, HEADS, KEY, VALUE = 23, 3, 4, 6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fades(*shape: int, seed: int, most: float = 2.0) -> Tensor:
    """Log decays between -`most` and 0."""
    return -most * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def queries_keys_values() -> tuple[Tensor, Tensor, Tensor]:
    return (
        random(2, HEADS, TOKENS, KEY),
        random(2, HEADS, TOKENS, KEY, seed=1),
        random(2, HEADS, TOKENS, VALUE),
    )


def assert_same(
    fast: Callable[..., Tensor],
    slow: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    tolerance: float = 1e-9,
) -> None:
    """Values, and gradients of every input."""
    inputs = [part.clone().requires_grad_() for part in inputs]
    a, b = fast(*inputs), slow(*inputs)
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    weights = random(*a.shape, seed=9)
    for x, y in zip(
        torch.autograd.grad((a * weights).sum(), inputs), torch.autograd.grad((b * weights).sum(), inputs),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


def in_chunks(form: str, chunks: Chunks, q: Tensor, k: Tensor, v: Tensor, *steps: Tensor) -> Tensor:
    """A form on uncut heads."""
    q, k, v = (chunks.cut(part) for part in (q, k, v))
    cut = tuple(chunks.cut(step) for step in steps)
    if form == "scalar":
        mixed = scalar_sums(q, k, v, cut, past_bias(chunks.size).double(), chunks)
    else:
        past = torch.ones(chunks.size, chunks.size, dtype=torch.bool).tril()
        growths = tuple(Growth.of(step, is_backward=way == 1) for way, step in enumerate(cut))
        mixed = bounded_sums(q, k, v, growths, past if form == "bounded" else past.double(), chunks)
    return mixed if chunks.count == 1 else mixed.flatten(2, 3)[:, :, :TOKENS]


@pytest.mark.parametrize("size", [1, 4, 16, TOKENS, 40])
@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize(
    ("form", "width"), [("bounded", KEY), ("bounded", 1), ("multiplied", 1), ("scalar", 1)]
)
def test_every_chunk_size_gives_the_recurrence(form: str, width: int, ways: int, size: int) -> None:
    steps = [fades(2, HEADS, TOKENS, width, seed=seed) for seed in range(ways)]
    assert_same(
        lambda q, k, v, *steps: in_chunks(form, Chunks.of(TOKENS, size), q, k, v, *steps),
        lambda q, k, v, *steps: gla_reference(q, k, v, steps),
        [*queries_keys_values(), *steps],
    )


@pytest.mark.parametrize("ways", [1, 2])
def test_scalar_decays_may_be_as_strong_as_they_like(ways: int) -> None:
    steps = [fades(2, HEADS, TOKENS, 1, seed=seed, most=300.0) for seed in range(ways)]
    assert all((step < SCALAR_FLOOR).any() for step in steps)
    q, k, v = queries_keys_values()
    for size in (4, TOKENS):
        mixed = in_chunks("scalar", Chunks.of(TOKENS, size), q, k, v, *steps)
        torch.testing.assert_close(mixed, gla_reference(q, k, v, tuple(steps)), rtol=1e-9, atol=1e-9)


def test_heads_may_share_queries_and_keys() -> None:
    q, k, v = queries_keys_values()
    step = fades(2, HEADS, TOKENS, 1, seed=3)
    shared = gla_reference(q[:, :1].expand_as(q), k[:, :1].expand_as(k), v, (step,))
    for size in (4, TOKENS):
        mixed = in_chunks("scalar", Chunks.of(TOKENS, size), q[:, :1], k[:, :1], v, step)
        torch.testing.assert_close(mixed, shared, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["bounded", "scalar"])
def test_without_fading_it_is_linear_attention_with_the_identity_map(form: str) -> None:
    q, k, v = queries_keys_values()
    plain = (q @ k.transpose(-1, -2)).tril() @ v
    nothing = torch.zeros(2, HEADS, TOKENS, 1, dtype=torch.float64)
    for size in (4, TOKENS):
        mixed = in_chunks(form, Chunks.of(TOKENS, size), q, k, v, nothing)
        torch.testing.assert_close(mixed, plain, rtol=1e-9, atol=1e-9)


def test_the_strongest_bounded_decays_stay_finite_in_float32() -> None:
    steps = torch.full((1, 1, 32, 1), -4.0)
    q, k, v = (1e3 * random(1, 1, 32, KEY, seed=seed).float() for seed in range(3))
    q, k, v = (part.requires_grad_() for part in (q, k, v))
    mixed = in_chunks_of_32(q, k, v, steps)
    expected = gla_reference(q.double(), k.double(), v.double(), (steps.double(),))
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-3, atol=1e-1 * 1e6)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(mixed.sum(), (q, k, v)))


def in_chunks_of_32(q: Tensor, k: Tensor, v: Tensor, steps: Tensor) -> Tensor:
    past = torch.ones(32, 32, dtype=torch.bool).tril()
    return bounded_sums(q, k, v, (Growth.of(steps),), past, Chunks(32, 1))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_shifted_steps_reach_every_chunk(count: int) -> None:
    sums, decays = random(2, count, 3, 4), torch.rand(2, count, 3, 1, dtype=torch.float64)
    state, rows = torch.zeros_like(sums[:, 0]), []
    for c in range(count):
        rows.append(state)
        state = sums[:, c] + decays[:, c] * state
    before = states_before(decays, sums, Chunks(1, count).rounds)
    torch.testing.assert_close(before, torch.stack(rows, dim=1), rtol=1e-12, atol=1e-12)
    after = states_before(decays.flip(1), sums.flip(1), Chunks(1, count).rounds, is_backward=True)
    torch.testing.assert_close(after, before.flip(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunks", [Chunks(1, 23), Chunks(4, 6), Chunks(16, 2), Chunks(23, 1)])
def test_a_selective_scan_in_chunks_is_the_recurrence(chunks: Chunks) -> None:
    width, states = 5, 3
    delta = torch.rand(2, TOKENS, width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    inputs = [delta, random(2, TOKENS, width), fades(states, width, seed=5, most=4.0)]
    inputs += [random(2, TOKENS, states, seed=6), random(2, TOKENS, states, seed=7)]
    assert_same(lambda d, u, a, b, c: selective_scan(d, u, a, b, c, chunks), mamba_reference, inputs)


@pytest.mark.parametrize(("numbers", "tokens"), [(1, 1), (512, 7), (512, 40), (2048, 128), (10**6, 9)])
def test_chunks_that_fit_the_cache_hold_all_tokens(numbers: int, tokens: int) -> None:
    chunks = sized_chunks(numbers, tokens)
    assert chunks.size * chunks.count >= tokens > chunks.size * (chunks.count - 1)


def test_softplus_for_export_is_exact_to_rounding() -> None:
    u = torch.linspace(-90.0, 90.0, 4001)
    wanted = torch.nn.functional.softplus(u.double())
    torch.testing.assert_close(softplus_explicit(u).double(), wanted, rtol=3e-7, atol=1e-30)


def test_first_steps_are_log_uniform() -> None:
    torch.manual_seed(0)
    steps = torch.nn.functional.softplus(start_of_steps(4000).double())
    assert 0.999e-3 < steps.min() < 1.1e-3
    assert 0.09 < steps.max() < 0.1001
    assert steps.log().mean().item() == pytest.approx(-4.605, abs=0.06)
