"""The list of proxies, and scores of real architectures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evaluators.proxies
from evaluators.protocol import Measurement
from evaluators.proxies import PROXIES, combined_rank, proxy, proxy_names, score
from evaluators.proxy import initialisation_seed, model_passes
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError
from space.model import build_model, parameter_roles

MIXERS: dict[str, Mapping[str, Any]] = {
    "softmax": {"kind": "softmax", "num_heads": 4, "num_kv_heads": 4},
    "grouped": {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2},
    "linear_elu": {"kind": "linear_elu", "num_heads": 4},
    "sliding_window": {"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 4, "window": 8},
    "gated_conv": {"kind": "gated_conv", "width": 3, "gates": 2},
    "pool": {"kind": "pool", "width": 3},
}
GLU = {"kind": "glu", "activation": "silu", "d_ff": 32}
MLP = {"kind": "mlp", "activation": "relu2", "d_ff": 48}
TOKENS = 24


def layer(mixer: str, feed_forward: Mapping[str, Any] = GLU, **options: str) -> dict[str, Any]:
    return {"mixer": MIXERS[mixer], "feed_forward": feed_forward, "norm": {"kind": "rmsnorm"}, **options}


def decoder(*layers: Mapping[str, Any]) -> Architecture:
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "context_length": TOKENS, "outputs": 256},
            "d_model": 16,
            "position": {"kind": "rope"},
            "layers": layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )


def vision(*layers: Mapping[str, Any]) -> Architecture:
    return parse_architecture(
        {
            "model": "vision",
            "interface": {"input": "image", "height": 8, "width": 8, "patch_size": 2, "outputs": 10},
            "d_model": 16,
            "position": {"kind": "learned"},
            "layers": layers,
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "classification"},
        }
    )


@pytest.fixture(scope="module")
def text() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 256, (16, TOKENS + 1))
    return windows[:, :-1], windows[:, 1:]


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40)


def test_every_file_of_the_package_has_its_member_in_the_list() -> None:
    folder = Path(evaluators.proxies.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(proxy_names())
    assert all(type(member).__module__ == f"evaluators.proxies.{member.id}" for member in PROXIES)


def test_a_mistyped_name_gets_the_nearest_one() -> None:
    with pytest.raises(InvalidInputError, match="unknown proxy 'wpca'; did you mean 'w_pca'"):
        proxy("wpca")


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer_has_its_scores(text: tuple[np.ndarray, np.ndarray], mixer: str) -> None:
    scores = score(decoder(layer(mixer), layer(mixer, MLP)), *text, proxy_names(), seed=0, num_seeds=1)
    supported = set(proxy_names())
    if mixer not in ("softmax", "grouped", "sliding_window"):
        supported -= {"attention_confidence"}
    if mixer == "pool":
        supported -= {"synaptic_diversity", "attention_importance", "head_confidence"}
    assert {name for name, own in scores.items() if own.status == "ok"} == supported
    assert all(own.kind == "computed" and own.quantity == name for name, own in scores.items())
    json.dumps([dict(own.detail) for own in scores.values()], allow_nan=False)


FEED_FORWARDS: dict[str, Mapping[str, Any]] = {
    "moe": {"kind": "moe", "d_ff": 16, "num_experts": 4, "top_k": 2},
    "gated moe": {"kind": "moe", "d_ff": 16, "activation": "silu", "gated": True},
    "nested": {"kind": "nested", "d_ff": 32, "granularity": 2},
    "deep mlp": {"kind": "mlp", "d_ff": 16, "num_hidden": 3, "activation": "polynorm"},
}


@pytest.mark.parametrize("feed_forward", FEED_FORWARDS)
def test_every_feed_forward_has_its_scores(text: tuple[np.ndarray, np.ndarray], feed_forward: str) -> None:
    one = layer("softmax", FEED_FORWARDS[feed_forward])
    scores = score(decoder(one, one), *text, proxy_names(), seed=0, num_seeds=1)
    per_example = {"naswot", "activation_distance", "swap"} if "moe" in feed_forward else set()
    assert {name for name, own in scores.items() if own.status == "ok"} == set(proxy_names()) - per_example
    assert {name for name, own in scores.items() if own.status == "unsupported"} == per_example


def test_a_layer_without_feed_forward_is_left_out_of_the_hidden_activations(
    text: tuple[np.ndarray, np.ndarray],
) -> None:
    bare, fed = layer("gated_conv", {"kind": "none"}), layer("gated_conv")
    names = ["w_pca", "naswot", "synaptic_saliency", "zico", "synaptic_diversity"]
    mixed = score(decoder(bare, fed), *text, names, seed=0)
    assert all(own.status == "ok" for own in mixed.values())
    without = score(decoder(bare, bare), *text, names, seed=0)
    assert without["w_pca"].status == without["naswot"].status == "unsupported"
    assert without["synaptic_saliency"].status == "unsupported"
    assert without["zico"].status == without["synaptic_diversity"].status == "ok"


def test_both_halves_of_a_macaron_layer_are_read(text: tuple[np.ndarray, np.ndarray]) -> None:
    model = build_model(decoder(layer("softmax", residual="macaron"), layer("softmax")), seed=0)
    passes = model_passes(model, *text, frozenset({"hidden"}))
    assert [(hidden.number, hidden.d_ff) for hidden in passes.hidden] == [(0, 16), (1, 16), (2, 32)]


def test_mixers_without_weights_are_reported_as_unsupported_not_as_zero(
    text: tuple[np.ndarray, np.ndarray],
) -> None:
    own = score(decoder(layer("pool")), *text, ["synaptic_diversity"], seed=0)["synaptic_diversity"]
    assert (own.status, own.value) == ("unsupported", None)
    assert "no mixer" in own.detail["reason"]


def test_images_are_scored_and_rows_come_from_the_whole_probe_batch(
    images: tuple[np.ndarray, np.ndarray],
) -> None:
    wide = vision(layer("softmax", {"kind": "mlp", "activation": "gelu", "d_ff": 128}))
    scores = score(wide, *images, proxy_names(), seed=0, num_seeds=1)
    missing = {name for name, own in scores.items() if own.status != "ok"}
    assert missing == {"macs_decode", "state_size", "az_progressivity"}  # not causal, and one block
    assert scores["w_pca"].detail["short_of_rows"] == 0.0
    few = score(wide, images[0][:16], images[1][:16], ["w_pca"], seed=0)["w_pca"]
    assert few.detail["short_of_rows"] == 1.0


def test_shared_passes_give_what_separate_ones_give(text: tuple[np.ndarray, np.ndarray]) -> None:
    architecture = decoder(layer("softmax"), layer("gated_conv", MLP))
    shared = score(architecture, *text, proxy_names(), seed=3, num_seeds=1)
    for name, own in shared.items():
        alone = score(architecture, *text, [name], seed=3, num_seeds=1)[name]
        # where probabilities are shown, attention runs in its explicit form, which rounds otherwise
        assert alone.value == (None if own.value is None else pytest.approx(own.value, rel=1e-3, abs=1e-4))


def test_synaptic_diversity_of_a_whole_model_by_its_definition(text: tuple[np.ndarray, np.ndarray]) -> None:
    architecture = decoder(layer("grouped"), layer("linear_elu", MLP))
    model = build_model(architecture, seed=initialisation_seed(architecture, 0, 0))
    logits = model(torch.tensor(text[0]))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(text[1]).flatten())
    expected = 0.0
    for name, role in parameter_roles(model).items():
        weight = model.get_parameter(name)
        if role.role.startswith("mixer.") and weight.ndim == 2:
            (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
            parts = list(role.parts) or [len(weight)]
            for w, g in zip(torch.split(weight.detach(), parts), torch.split(gradient, parts), strict=True):
                expected += float(torch.linalg.matrix_norm(w, "nuc") * torch.linalg.matrix_norm(g, "nuc"))
    own = score(architecture, *text, ["synaptic_diversity"], seed=0)["synaptic_diversity"]
    # float32 gradients summed by micro-batch and at once
    assert own.value == pytest.approx(expected, rel=1e-4)
    assert own.detail["matrices"] == 8.0


def test_w_pca_is_s_pca_times_the_parameters(text: tuple[np.ndarray, np.ndarray]) -> None:
    architecture = decoder(layer("softmax"))
    own = score(architecture, *text, ["w_pca"], seed=0)["w_pca"]
    num_params = sum(parameter.numel() for parameter in build_model(architecture, seed=0).parameters())
    assert own.value == own.detail["s_pca"] * num_params


def test_the_order_of_the_probe_batch_does_not_matter(text: tuple[np.ndarray, np.ndarray]) -> None:
    order = np.random.default_rng(1).permutation(16)
    architecture, names = decoder(layer("softmax"), layer("pool")), ["synaptic_diversity", "w_pca"]
    straight = score(architecture, *text, names, seed=0)
    shuffled = score(architecture, text[0][order], text[1][order], names, seed=0)
    for name in names:
        assert straight[name].value == pytest.approx(shuffled[name].value, rel=1e-4)


def test_number_formats_do_not_matter_and_seeds_do(text: tuple[np.ndarray, np.ndarray]) -> None:
    architecture = decoder(layer("softmax"))
    own = score(architecture, *text, ["zico"], seed=0)["zico"].value
    assert (
        score(architecture.with_number_format("int8_dynamic"), *text, ["zico"], seed=0)["zico"].value == own
    )
    assert score(architecture, *text, ["zico"], seed=1)["zico"].value != own


def test_the_random_state_is_untouched_and_plays_no_part(text: tuple[np.ndarray, np.ndarray]) -> None:
    architecture = decoder(layer("softmax"))
    values = []
    for state in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state)
            before = torch.get_rng_state()
            values.append(score(architecture, *text, ["zico"], seed=0)["zico"].value)
            assert torch.equal(torch.get_rng_state(), before)
    assert values[0] == values[1]


def test_no_names_cost_nothing_and_repeated_ones_count_once(text: tuple[np.ndarray, np.ndarray]) -> None:
    architecture = decoder(layer("softmax"))
    assert score(architecture, *text, [], seed=0) == {}
    assert list(score(architecture, *text, ["w_pca", "w_pca"], seed=0)) == ["w_pca"]


def measurement(name: str, value: float | None, status: Any = "ok") -> Measurement:
    return Measurement(name, value, "1", "computed", status)


def test_the_combined_rank_puts_failures_last_and_leaves_out_what_cannot_be() -> None:
    scores = [
        {"zico": measurement("zico", 5.0), "w_pca": measurement("w_pca", 9.0)},
        {"zico": measurement("zico", 7.0), "w_pca": measurement("w_pca", None, "nan")},
        {"zico": measurement("zico", 6.0), "w_pca": measurement("w_pca", None, "unsupported")},
        {"zico": measurement("zico", None, "overflow"), "w_pca": measurement("w_pca", 8.0)},
    ]
    first, second, third, fourth = combined_rank(scores)
    assert first < second
    assert third == 2.0  # its rank by zico alone
    assert fourth > first


def test_the_combined_rank_of_nobody_is_empty() -> None:
    assert combined_rank([]) == []
    assert combined_rank([{}, {}]) == [1.5, 1.5]
