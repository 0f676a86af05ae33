"""The options of softmax-type attention: identities, starts, counts, decoding, canonical form, export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space.architecture import parse_architecture
from space.choice import Foldable, MixerChoice, Surroundings
from space.errors import InvalidArchitectureError
from space.export.onnx import export_module
from space.kernels.attention import attention_explicit
from space.layer_options import mixer_config
from space.mixers import SlidingWindowConfig, SoftmaxConfig
from space.mixing.attention import Attention, AttentionConfig
from space.mixing.attention_parts import Clip, HeadConvolution, WeightedProjection
from space.model import build_model
from space.positions import POSITIONS

D_MODEL, CONTEXT = 24, 20
GATES = ("per_head", "per_token", "per_token_full")
OPTIONS: list[dict[str, Any]] = [
    {"qk_norm": True},
    {"clipped_softmax": 4, "head_width": 5},
    *({"gated_attention": gate} for gate in GATES),
    {"qkv_dconv": 3},
    {"qkv_dconv": 5, "head_width": 5},
    {"score": "wma"},
    {"score": "wma", "qkv_dconv": 3, "clipped_softmax": 8, "gated_attention": "per_token_full"},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))


def around(
    *, causal: bool = True, position: str = "rope", rank_ratio: float = 1.0, context: int = CONTEXT
) -> Surroundings:
    return Surroundings(
        d_model=D_MODEL, context_length=context, num_layers=2, causal=causal, rank_ratio=rank_ratio,
        position=POSITIONS[position](),
    )  # fmt: skip


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def configs(options: dict[str, Any]) -> Iterator[AttentionConfig]:
    yield SoftmaxConfig(num_heads=4, num_kv_heads=2, **options)
    yield SlidingWindowConfig(num_heads=4, num_kv_heads=1, window=3, **options)
    yield SlidingWindowConfig(num_heads=4, num_kv_heads=4, window=15, **options)


def softmax(at: Surroundings, **options: Any) -> Attention:
    """With weights of its initialisation."""
    torch.manual_seed(0)
    module = SoftmaxConfig(num_heads=4, num_kv_heads=2, **options).build(at).double()
    assert isinstance(module, Attention)
    return module


def spread(module: nn.Module) -> nn.Module:
    """With weights large enough for differences to show, and at the end of its training."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    for clip in module.modules():
        if isinstance(clip, Clip):
            clip.set_progress(1.0)
    return module


def clip_of(module: Attention) -> Clip:
    assert isinstance(module.clip, Clip)
    return module.clip


def without(module: Attention, way: str) -> Attention:
    """The plain layer with the same projections."""
    plain = softmax(around(causal=way == "causal"))
    weights = module.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    return plain


def test_normed_scores_do_not_depend_on_the_scale_of_the_input_and_are_bounded() -> None:
    module = spread(softmax(around(), qk_norm=True))
    x = random(2, 9, D_MODEL)
    torch.testing.assert_close(module(100 * x), 100 * module(x), rtol=1e-5, atol=1e-5)
    gained = softmax(around(position="none"), qk_norm=True)
    q, k, _ = gained._heads(100 * random(2, 9, 48))
    assert (q @ k.repeat_interleave(2, dim=1).transpose(-1, -2) / 6**0.5).abs().max() <= 6**0.5 + 1e-9


def test_a_clip_that_has_not_begun_is_the_normed_softmax() -> None:
    clipped, normed = softmax(around(), clipped_softmax=4), softmax(around(), qk_norm=True)
    x = random(2, CONTEXT, D_MODEL)
    torch.testing.assert_close(clipped(x), normed(x), rtol=1e-12, atol=1e-15)
    spread(clipped), spread(normed)
    assert not torch.allclose(clipped(x), normed(x))


def test_gamma_falls_over_the_first_half_and_is_kept() -> None:
    module = softmax(around(), clipped_softmax=4)
    gamma = module.get_buffer("clip.gamma")
    seen = []
    for fraction in (0.0, 0.25, 0.5, 1.0):
        clip_of(module).set_progress(fraction)
        seen.append(gamma.item())
    assert seen == pytest.approx([0.0, -2 / CONTEXT, -4 / CONTEXT, -4 / CONTEXT])
    other = softmax(around(), clipped_softmax=4)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.get_buffer("clip.gamma"), gamma)


def test_a_window_clips_by_the_keys_it_reads() -> None:
    config = SlidingWindowConfig(num_heads=4, num_kv_heads=1, window=6, clipped_softmax=4)
    assert config.keys_read(around()) == 6
    assert config.keys_read(around(causal=False)) == 7
    assert config.keys_read(around(context=5)) == 5


def test_a_peaked_row_has_exact_zeros_and_forbidden_keys_stay_zero() -> None:
    clip = Clip(4, CONTEXT)
    clip.set_progress(1.0)
    # the values are the unit vectors, so that the attended values are the weights themselves
    k = torch.eye(CONTEXT)[None, None]
    bias = torch.zeros(1, CONTEXT, CONTEXT)
    bias[:, :, -1] = -1e30
    weights = attention_explicit(50 * k, k, k, bias, has_empty_rows=True, clip=clip)
    assert weights.min() == 0.0
    assert (weights[0, 0, :-1].diagonal() > 0.9).all()
    assert torch.equal(weights[..., -1], torch.zeros(1, 1, CONTEXT))


def test_queries_and_keys_get_a_gradient_at_the_start_that_a_full_clip_would_take() -> None:
    at = around(causal=False, context=128)
    module = softmax(at, clipped_softmax=12)
    x = random(1, 128, D_MODEL)
    for fraction, is_alive in ((0.0, True), (1.0, False)):
        clip_of(module).set_progress(fraction)
        nn.init.constant_(module.get_parameter("q_norm.gain"), 0.1)  # flat probabilities
        weight = module.get_parameter("qkv.weight")
        (gradient,) = torch.autograd.grad(module(x).square().sum(), weight)
        assert bool((gradient[: 2 * D_MODEL] != 0).any()) is is_alive


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_starts_at_its_openness_and_an_open_one_is_none(gate: str) -> None:
    module = softmax(around(), gated_attention=gate, gate_openness=0.1)
    x = random(2, 9, D_MODEL)
    opened = module.get_submodule("gate")
    torch.testing.assert_close(opened(0 * x).mean(), torch.tensor(0.1).double(), rtol=1e-6, atol=0)
    for name, parameter in opened.named_parameters():
        nn.init.constant_(parameter, 100.0 if name in ("logit", "bias") else 0.0)
    torch.testing.assert_close(module(x), without(module, "causal")(x), rtol=1e-12, atol=1e-15)


def test_the_convolution_starts_on_the_token_itself() -> None:
    causal, centred = (HeadConvolution(2, 3, causal=way).kernel[0].tolist() for way in (True, False))
    assert causal == pytest.approx([1 / 6, 1 / 6, 1 / 2])
    assert centred == pytest.approx([1 / 6, 1 / 2, 1 / 6])
    assert HeadConvolution(2, 5, causal=True).kernel[1].tolist() == pytest.approx([0.1] * 4 + [0.5])


@pytest.mark.parametrize("way", ["causal", "both_ways"])
@pytest.mark.parametrize("taps", [3, 5])
def test_a_convolution_that_is_the_token_itself_is_none(way: str, taps: int) -> None:
    module = softmax(around(causal=way == "causal"), qkv_dconv=taps)
    kernel = module.get_parameter("convolution.kernel")
    with torch.no_grad():
        kernel.zero_()
        kernel[:, taps - 1 if way == "causal" else taps // 2] = 1.0
    x = random(2, 9, D_MODEL)
    torch.testing.assert_close(module(x), without(module, way)(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rank_ratio", [1.0, 0.25])
def test_the_weighted_score_with_identities_is_the_plain_one_and_folds(rank_ratio: float) -> None:
    at = around(rank_ratio=rank_ratio)
    module = softmax(at, score="wma")
    x = random(2, 9, D_MODEL)
    weighted = module.qkv
    assert isinstance(weighted, WeightedProjection)
    drawn = weighted.matrices.weight.detach().clone()
    assert (drawn - torch.eye(6, dtype=torch.float64).repeat(4, 1)).abs().max() < 0.041
    with torch.no_grad():
        weighted.matrices.weight.copy_(torch.eye(6).repeat(4, 1))
    torch.testing.assert_close(weighted(x), weighted.projection(x), rtol=1e-12, atol=1e-15)
    spread(module)
    y, before = module(x), weighted.projection(x)
    module.qkv = weighted.folded()
    assert not isinstance(module.qkv, WeightedProjection)
    torch.testing.assert_close(module(x), y, rtol=1e-10, atol=1e-12)
    assert torch.equal(weighted.projection(x), before)
    assert sum(p.numel() for p in module.parameters()) == SoftmaxConfig(num_heads=4, num_kv_heads=2).params(
        at
    )


@every_option
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
def test_counts_equal_the_formulas(options: dict[str, Any], causal: bool) -> None:
    at = around(causal=causal)
    for config in configs(options):
        module = spread(config.build(at))
        assert sum(p.numel() for p in module.parameters()) == config.params(at)
        for name, child in module.named_children():
            if isinstance(child, Foldable):
                setattr(module, name, child.folded())
        for tokens in (1, 7, CONTEXT):
            x, mask = torch.zeros(1, tokens, D_MODEL), torch.ones(1, tokens, dtype=torch.bool)
            with FlopCounterMode(display=False) as counter:  # with a mask attention is plain matrix products
                module(x, mask)
            assert counter.get_total_flops() == 2 * config.macs(at, tokens)
            assert config.macs_causal(at, tokens) <= config.macs(at, tokens)


@torch.no_grad()
def test_counted_products_of_one_more_token_equal_the_formula() -> None:
    for options in OPTIONS:
        for config in configs({**options, "score": "sdp"}):
            module = config.build(around())
            assert isinstance(module, Attention)
            x = torch.zeros(1, CONTEXT, D_MODEL)
            _, state = module.prefill(x[:, :-1])
            with FlopCounterMode(display=False) as counter:
                module.step(x[:, -1:], state, torch.tensor(CONTEXT - 1))
            assert counter.get_total_flops() == 2 * config.macs_decode(around(), CONTEXT - 1)


@every_option
@torch.no_grad()
def test_decoding_equals_the_whole_with_padding_anywhere(options: dict[str, Any]) -> None:
    mask = torch.ones(3, CONTEXT, dtype=torch.bool)
    mask[1, :4] = mask[2, ::3] = False
    x = random(3, CONTEXT, D_MODEL)
    for config in configs(options):
        module = spread(config.build(around(position="t5_bias")).double())
        assert isinstance(module, Attention)
        whole = module(x, mask)
        start, state = module.prefill(x[:, :1], mask[:, :1])
        rows = [start]
        for t in range(1, CONTEXT):
            y, state = module.step(x[:, t : t + 1], state, torch.tensor(t), mask[:, t : t + 1])
            rows.append(y)
        torch.testing.assert_close(torch.cat(rows, 1)[mask], whole[mask], rtol=1e-10, atol=1e-10)
        assert sum(kept[0].numel() for kept in state.values()) == config.state_size(around(), CONTEXT)


def test_the_peak_of_live_numbers_counts_gates_and_the_convolution() -> None:
    n, channels = CONTEXT, D_MODEL * 2
    plain, gated, convolved = (
        SoftmaxConfig(num_heads=4, num_kv_heads=2, **options).activation_size(around(), n)
        for options in ({}, {"gated_attention": "per_token"}, {"qkv_dconv": 5})
    )
    assert plain == n * channels + 4 * n**2
    assert gated == plain + 4 * n
    assert convolved == max(plain, channels * (2 * n + 4))


def canonical(**options: Any) -> MixerChoice:
    return SoftmaxConfig(num_heads=4, num_kv_heads=2, **options).canonical(around())


def test_options_that_say_the_same_have_one_spelling() -> None:
    assert canonical(head_width=6) == canonical()
    assert canonical(clipped_softmax=4) == canonical(clipped_softmax=4, qk_norm=True)
    assert canonical(gate_openness=0.5) == canonical()
    gated = canonical(gate_openness=0.5, gated_attention="per_head")
    assert gated.canonical(around()) == gated != canonical(gated_attention="per_head")
    assert canonical(score="wma") != canonical()


def test_options_that_are_off_leave_the_stored_form() -> None:
    assert canonical().model_dump() == {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}
    assert canonical(qkv_dconv=3).model_dump()["qkv_dconv"] == 3


def test_genes_snap_to_options_that_can_stand() -> None:
    levels: dict[str, Any] = {
        "mixer": "softmax",
        "head_width": 6,
        "own_head_width": 5,
        "gated_attention": "per_token",
    }
    config = mixer_config({**levels, "qkv_dconv": 3}, around())
    assert isinstance(config, SoftmaxConfig)
    config.check(around())
    assert (config.head_width, config.gated_attention, config.qkv_dconv) == (0, "per_token", 3)


@torch.no_grad()
def test_the_graph_of_an_untrained_layer_has_the_operators_of_a_trained_one(tmp_path: Path) -> None:
    for config in list(configs({"clipped_softmax": 4, "qkv_dconv": 5}))[:2]:
        module = config.build(around()).eval()
        axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
        path = tmp_path / "mixer.onnx"
        for is_trained in (False, True):
            if is_trained:
                spread(module)
            export_module(module, ("x", torch.zeros(2, 9, D_MODEL)), "y", axes, path)
            assert {"Clip", "Conv"} <= {node.op_type for node in onnx.load(path).graph.node}
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for tokens in (1, CONTEXT):
                x = random(3, tokens, D_MODEL).float()
                y = session.run(None, {"x": x.numpy()})[0]
                torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("taps", [0, 3])
def test_an_encoder_without_positions_sees_order_by_convolved_queries_and_keys(taps: int) -> None:
    described = {
        "model": "encoder",
        "interface": {"input": "bytes", "context_length": 12, "outputs": 2},
        "d_model": 16,
        "position": {"kind": "none"},
        "layers": [
            {
                "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2, "qkv_dconv": taps},
                "feed_forward": {"kind": "mlp", "d_ff": 16},
                "norm": {"kind": "rmsnorm"},
            }
        ],
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "classification"},
    }
    if not taps:
        with pytest.raises(InvalidArchitectureError, match="blind to order"):
            parse_architecture(described)
        return
    architecture = parse_architecture(described)
    assert parse_architecture(architecture.canonical_json).id == architecture.id
    model, tokens = spread(build_model(architecture)).eval(), torch.arange(12)[None]
    moved = tokens[:, [*range(0, 12, 2), *range(1, 12, 2)]]
    assert not torch.allclose(model(tokens), model(moved), rtol=1e-3)
