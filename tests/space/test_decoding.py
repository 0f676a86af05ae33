"""Whole decoders token by token (E6): the same logits as at once, whatever they are made of."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from space.architecture import Architecture, parse_architecture
from space.choice import Surroundings
from space.costs import costs, is_decodable
from space.errors import InvalidInputError, UnsupportedError
from space.feedforward import FEED_FORWARDS
from space.gene import Value
from space.layer_options import feed_forward_config, mixer_config
from space.mixers import MIXERS
from space.model import Model, build_model
from space.norms import NORMS
from space.positions import POSITIONS

pytestmark = pytest.mark.slow

D_MODEL, TOKENS, VOCABULARY = 32, 20, 30
DECODABLE = [kind for kind, config in MIXERS.items() if config.causal and config.decodable]
SHARINGS: list[dict[str, Any]] = [
    {"kind": "none"},
    {"kind": "all"},
    {"kind": "groups", "groups": 2, "order": "cycle", "private_norm": True},
]


def layer(mixer: str, feed_forward: str = "glu", **more: Any) -> dict[str, Any]:
    at = Surroundings(
        d_model=D_MODEL, context_length=TOKENS, num_layers=2, causal=True, position=POSITIONS["none"]()
    )
    genes: dict[str, Value] = {"mixer": mixer, "head_width": 8, "kv_heads": "half", "window": 5}
    return {
        "mixer": mixer_config(genes, at).model_dump(),
        "feed_forward": feed_forward_config({"feed_forward": feed_forward, "ff_ratio": 2}, at).model_dump(),
        "norm": {"kind": "rmsnorm"},
        **more,
    }


def architecture(layers: list[dict[str, Any]], **more: Any) -> Architecture:
    interface = {"input": "bytes", "vocab_size": VOCABULARY, "context_length": TOKENS, "outputs": VOCABULARY}
    point = {
        "model": "decoder",
        "interface": interface,
        "d_model": D_MODEL,
        "position": {"kind": "rope"},
        "layers": layers,
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language"},
    }
    return parse_architecture({**point, **more})


def drawn() -> Iterator[tuple[str, Architecture]]:
    """Every decodable mixer in a layer of its own kind, then stacks drawn from everything at once."""
    rng = random.Random(0)
    for kind in DECODABLE:
        yield kind, architecture([layer(kind)])
    for kind in POSITIONS:
        layers = [layer("softmax"), layer("sliding_window"), layer("gated_conv")]
        yield f"position {kind}", architecture(layers, position={"kind": kind})
    norms = [kind for kind, norm in NORMS.items() if norm.causal]
    feed_forwards = [kind for kind, ffn in FEED_FORWARDS.items() if ffn.is_present]
    for index in range(16):
        ways = {
            "norm": {"kind": rng.choice(norms)},
            "placement": rng.choice(["pre", "post"]),
            "residual": rng.choice(["serial", "parallel", "macaron"]),
        }
        sharing = SHARINGS[index % 3]
        kinds = rng.sample(DECODABLE, 2 if sharing["kind"] == "groups" else 1) * 2
        if sharing["kind"] == "none":
            kinds = rng.sample(DECODABLE, 3)
        made = {kind: layer(kind, rng.choice(feed_forwards), **ways) for kind in kinds}
        ratio = rng.choice([None, 0.25])
        projection = {"kind": "dense"} if ratio is None else {"kind": "lowrank", "rank_ratio": ratio}
        yield (
            f"drawn {index}",
            architecture(
                [made[kind] for kind in kinds],
                position={"kind": rng.choice(list(POSITIONS))},
                sharing=sharing,
                projection=projection,
                head={"kind": "language", "tied": rng.random() < 0.5},
            ),
        )


POINTS = dict(drawn())
every_point = pytest.mark.parametrize("name", POINTS)


def trained(point: Architecture) -> Model:
    """In float64, with weights large enough for the past to matter."""
    model = build_model(point, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(spread * noise if parameter.ndim > 1 else parameter + spread * noise)
    model.set_progress(1.0)
    return model.eval()


def tokens(batch: int = 2, length: int = TOKENS) -> Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(2))


def assert_close(found: Tensor, expected: Tensor, message: str) -> None:
    """Tables of positions are float32 and chunked sums run in another order."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(
        found, expected, rtol=5e-5, atol=5e-5 * scale, msg=lambda text: f"{message}: {text}"
    )


@every_point
@torch.no_grad()
def test_token_by_token_and_after_a_prompt_equal_the_whole(name: str) -> None:
    point = POINTS[name]
    model, x = trained(point), tokens()
    whole = model(x)
    states = model.init_state(2, dtype=torch.float64)
    assert len(states) == len(point.layers)
    for t in range(TOKENS):
        logits, states = model.step(x[:, t], states, torch.tensor(t))
        assert_close(logits, whole[:, t], f"token {t}")
    for prompt in (1, 7):
        logits, states = model.prefill(x[:, :prompt])
        assert_close(logits, whole[:, :prompt], f"prompt of {prompt}")
        for t in range(prompt, prompt + 4):
            logits, states = model.step(x[:, t], states, torch.tensor(t))
            assert_close(logits, whole[:, t], f"token {t} after a prompt of {prompt}")


@every_point
@torch.no_grad()
def test_the_state_has_the_size_that_costs_say(name: str) -> None:
    point = POINTS[name]
    model = build_model(point, seed=0)
    _, states = model.prefill(tokens(1))
    kept = sum(tensor.numel() for state in states for tensor in state.values())
    assert 4 * kept == costs(point).state_bytes


@every_point
def test_greedy_continuation_equals_repeated_forward_passes(name: str) -> None:
    model = trained(POINTS[name])
    prompt = tokens(2, 3)
    expected = prompt
    for _ in range(6):
        likeliest = model(expected)[:, -1].argmax(dim=-1)
        expected = torch.cat([expected, likeliest[:, None]], dim=1)
    assert torch.equal(model.generate(prompt, 6), expected)


def test_drawing_depends_on_the_generator_alone_and_on_temperature() -> None:
    model = trained(POINTS["softmax"])
    first, again, other = (
        model.generate(tokens(2, 3), 10, temperature=1.0, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    cold = model.generate(tokens(2, 3), 10, temperature=1e-6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cold, model.generate(tokens(2, 3), 10))


def test_the_context_is_the_limit() -> None:
    model = trained(POINTS["softmax"])
    full = model.generate(tokens(1, TOKENS - 2), 2)
    assert full.shape == (1, TOKENS)
    assert torch.equal(model.generate(tokens(1), 0), tokens(1))
    with pytest.raises(InvalidInputError, match=f"19 tokens and 2 new ones do not fit .* {TOKENS}"):
        model.generate(tokens(1, TOKENS - 1), 2)
    with pytest.raises(InvalidInputError, match="prompt of 0 tokens"):
        model.generate(tokens(1, 0), 2)
    with pytest.raises(InvalidInputError, match=f"{TOKENS + 1} tokens are more than the context length"):
        model.prefill(tokens(1, TOKENS + 1))


def test_what_does_not_run_token_by_token_says_so() -> None:
    kinds = [kind for kind, config in MIXERS.items() if config.causal and not config.decodable]
    for kind in kinds:
        point = architecture([layer("softmax"), layer(kind)])
        assert not is_decodable(point)
        model = build_model(point, seed=0)
        message = f"layer 1: mixer '{kind}' keeps no state"
        with pytest.raises(UnsupportedError, match=message):
            model.init_state(1)
        with pytest.raises(UnsupportedError, match=message):
            model.generate(tokens(1, 3), 2)
    encoder = architecture([layer("softmax")], model="encoder", head={"kind": "classification"})
    with pytest.raises(UnsupportedError, match="'encoder' is not causal"):
        build_model(encoder, seed=0).prefill(tokens(1, 3))
