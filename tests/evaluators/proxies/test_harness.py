"""What the harness promises for every proxy: the model as before, the same score however the batch is cut."""

import copy
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
import torch

from evaluators.passes import GROUPS, Passes, collect, points_of
from evaluators.passes.records import Loss, ProbeInput
from evaluators.proxies import PROXIES, Depth, ProbeOptions, proxy, proxy_fingerprint, score, with_plug_ins
from evaluators.proxy import model_passes
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError
from space.model import build_model

SOFTMAX = {"kind": "softmax", "num_heads": 2, "num_kv_heads": 1, "clipped_softmax": 4}
MIXERS: tuple[Mapping[str, Any], ...] = (
    {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
    SOFTMAX,
    {"kind": "axial", "num_heads": 2, "num_kv_heads": 2, "form": "shared", "columns": 4},
    {"kind": "mamba"},
    {"kind": "pool", "width": 3},
)
FEED_FORWARDS: tuple[Mapping[str, Any], ...] = (
    {"kind": "mlp", "activation": "gelu", "d_ff": 24, "num_hidden": 2},
    {"kind": "glu", "activation": "silu", "d_ff": 16},
    {"kind": "moe", "d_ff": 16, "num_experts": 2},
    {"kind": "nested", "d_ff": 16, "gated": True, "activation": "silu", "granularity": 2},
    {"kind": "mlp", "activation": "relu2", "d_ff": 24},
)


def decoder(*pairs: tuple[Mapping[str, Any], Mapping[str, Any]], **options: Any) -> Architecture:
    layers = [{"mixer": m, "feed_forward": f, "norm": {"kind": "rmsnorm"}} for m, f in pairs]
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 20, "context_length": 12, "outputs": 20},
            "d_model": 16,
            "position": {"kind": "none"},
            "layers": layers,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language", "tied": True},
            **options,
        }
    )


MIXED = decoder(*zip(MIXERS, FEED_FORWARDS, strict=True))
PLAIN = decoder((MIXERS[0], FEED_FORWARDS[1]), (MIXERS[0], FEED_FORWARDS[4]))
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 20, (16, 12)), RNG.integers(0, 20, (16, 12))
EVERYTHING = frozenset(GROUPS)


def scores(passes: Passes) -> dict[str, float]:
    return {member.id: member.score(passes).value for member in PROXIES}


def test_the_model_is_bit_for_bit_as_before() -> None:
    model = build_model(MIXED, seed=0).train()
    model.blocks[0].requires_grad_(False)
    model.head.zero_grad()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = copy.deepcopy(model.state_dict())
    gradients = [(p.requires_grad, p.grad) for p in model.parameters()]
    attributes = {
        name: sorted((key, id(value)) for key, value in module.__dict__.items() if not key.startswith("_"))
        for name, module in model.named_modules()
    }
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    state = torch.get_rng_state()
    model_passes(model, X, Y, EVERYTHING, architecture=MIXED)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == gradients
    assert [name for name, _ in model.named_modules(remove_duplicate=False)] == modules
    assert attributes == {
        name: sorted((key, id(value)) for key, value in module.__dict__.items() if not key.startswith("_"))
        for name, module in model.named_modules()
    }
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_failure_in_the_middle_takes_every_hook_away() -> None:
    model = build_model(MIXED, seed=0)
    with pytest.raises(IndexError):
        model_passes(model, X + 20, Y, EVERYTHING)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.blocks[0].mixer.clip is None


@pytest.mark.parametrize("examples", [16, 13])
def test_how_the_batch_is_cut_changes_no_score_but_that_of_its_moments(examples: int) -> None:
    model, found = build_model(PLAIN, seed=0), []
    for count in (2, 4):
        passes = collect(
            model, X[:examples], Y[:examples], points=points_of(model), needs=EVERYTHING,
            num_micro_batches=count, architecture=PLAIN,
        )  # fmt: skip
        found.append(scores(passes))
    for name in set(found[0]) - {"zico", "az_trainability"}:  # one reads the cut, one draws for it
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-3, abs=1e-4), name


def test_the_order_of_the_batch_changes_no_score_of_the_whole_batch() -> None:
    model, order = build_model(PLAIN, seed=0), np.random.default_rng(1).permutation(16)
    straight, shuffled = (
        scores(model_passes(model, x, y, EVERYTHING, architecture=PLAIN))
        for x, y in ((X, Y), (X[order], Y[order]))
    )
    # zico reads the cut, trainability draws by place, swap takes the first examples
    for name in set(straight) - {"zico", "az_trainability", "swap"}:
        assert straight[name] == pytest.approx(shuffled[name], rel=1e-3, abs=1e-4), name


def test_a_sum_of_outputs_is_refused_behind_a_norm_and_taken_without_one() -> None:
    model = build_model(PLAIN, seed=0)
    with pytest.raises(InvalidInputError, match="refused behind a norm"):
        model_passes(model, X, Y, frozenset({"gradients"}), options=ProbeOptions(loss="sum"))


def test_a_random_projection_needs_no_labels() -> None:
    options = ProbeOptions(loss="projection")
    found = [
        score(PLAIN, X, y, ["snip"], seed=0, options=options)["snip"].value for y in (Y, np.zeros_like(Y))
    ]
    assert found[0] == found[1] != score(PLAIN, X, Y, ["snip"], seed=0)["snip"].value


def test_a_projection_of_what_a_norm_leaves_pulls_and_a_sum_does_not() -> None:
    """Saliency of the sum is round-off: under a millionth of that of a projection."""
    encoder = PLAIN.model_dump(mode="json") | {"final_norm": {"kind": "layernorm"}}
    model = build_model(parse_architecture(encoder), seed=0).double()
    last = model.final_norm(model.blocks[1](model.blocks[0](model.embedding(torch.tensor(X)))))
    direction = torch.randn(last.shape, generator=torch.Generator().manual_seed(0), dtype=last.dtype)
    weight = model.get_parameter("blocks.0.mixer.out.weight")
    saliency = [
        float((weight * torch.autograd.grad(loss, weight, retain_graph=True)[0]).abs().sum().detach())
        for loss in (last.sum(), (direction * last).sum())
    ]
    assert saliency[0] < 1e-6 * saliency[1]


@pytest.mark.parametrize("probe", ["uniform_tokens", "gaussian_embedding"])
def test_another_input_is_another_evaluator_that_does_not_read_the_probe(probe: ProbeInput) -> None:
    options, names = ProbeOptions(probe=probe), ["az_expressivity", "az_trainability"]
    first, second = (score(PLAIN, x, Y, names, seed=0, options=options) for x in (X, X[::-1].copy()))
    real = score(PLAIN, X, Y, names, seed=0)
    for name in names:
        assert first[name].value == second[name].value != real[name].value
        assert proxy_fingerprint(proxy(name), digest="d", options=options) != proxy_fingerprint(
            proxy(name), digest="d"
        )


@pytest.mark.parametrize("loss", ["task", "projection"])
def test_the_loss_is_part_of_the_fingerprint(loss: Loss) -> None:
    own = proxy_fingerprint(proxy("snip"), digest="d", options=ProbeOptions(loss=loss))
    assert (own == proxy_fingerprint(proxy("snip"), digest="d")) == (loss == "task")


def test_a_closed_form_depends_on_no_probe_and_builds_nothing() -> None:
    assert proxy_fingerprint(proxy("depth"), digest="a") == proxy_fingerprint(proxy("depth"), digest="b")
    own = score(PLAIN, X, Y, ["depth"], seed=0)["depth"]
    assert own.value == 4.0
    assert "passes_s" not in own.detail


def test_three_initialisations_where_two_do_not_rank_alike() -> None:
    found = score(PLAIN, X, Y, ["jacob_cov", "snip", "depth"], seed=0)
    assert [found[name].repeats for name in ("jacob_cov", "snip", "depth")] == [3, 1, 1]
    assert found["jacob_cov"].spread is not None


def test_fewer_bits_make_more_noise() -> None:
    values = [
        score(PLAIN.with_number_format(form), X, Y, ["quant_noise"], seed=0)["quant_noise"].value
        for form in ("fp32", "bf16", "int8_dynamic", "int4_g32")
    ]
    known = [value for value in values if value is not None]
    assert len(set(known)) == 4
    assert known == sorted(known, reverse=True)


def test_shared_layers_are_seen_every_time_they_run() -> None:
    shared = decoder(*[(MIXERS[0], FEED_FORWARDS[1])] * 3, sharing={"kind": "all"})
    passes = model_passes(build_model(shared, seed=0), X, Y, EVERYTHING, architecture=shared)
    assert passes.num_layers == len(passes.features) == len(passes.isometry) == 3
    assert [one.number for one in passes.hidden] == [one.number for one in passes.signs] == [0, 1, 2]
    assert [one.layer for one in passes.probabilities] == [0, 1, 2]


@pytest.mark.parametrize("rank_ratio", [0.25, 0.5])
def test_low_rank_projections_have_every_score(rank_ratio: float) -> None:
    low = decoder(
        (MIXERS[0], FEED_FORWARDS[1]), (MIXERS[0], FEED_FORWARDS[4]),
        projection={"kind": "lowrank", "rank_ratio": rank_ratio},
    )  # fmt: skip
    found = scores(model_passes(build_model(low, seed=0), X, Y, EVERYTHING, architecture=low))
    assert all(np.isfinite(value) for value in found.values())


class Extra(Depth):
    """As another package would bring it."""

    id = "package:extra"


def point(value: str) -> EntryPoint:
    return EntryPoint("extra", value, "paretoformer.proxies")


def test_an_installed_package_adds_a_proxy() -> None:
    members = with_plug_ins(PROXIES, [point(f"{__name__}:Extra")])
    assert members[:-1] == PROXIES
    assert isinstance(members[-1], Extra)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:Extra", "cannot be loaded: No module named 'no_such_package'"),
        ("builtins:int", "must be a subclass"),
        ("evaluators.proxies.depth:Depth", "the id 'depth' is taken"),
    ],
)
def test_a_broken_plug_in_says_so(value: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        with_plug_ins(PROXIES, [point(value)])
