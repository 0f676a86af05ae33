"""What every linear attention owes beside the battery: padding, decoding, export and peaks in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from space.choice import Mixer, Surroundings
from space.export.onnx import export_module
from space.kernels.linear_attention import CHUNK
from space.mixers import CosformerConfig, LinearEluConfig, NormLinearConfig, SlaConfig
from space.mixing.linear_attention import LinearAttentionConfig
from space.positions import POSITIONS

CONTEXT = 3 * CHUNK + 5
CONFIGS: list[LinearAttentionConfig] = [
    LinearEluConfig(num_heads=2),
    LinearEluConfig(num_heads=2, feature_map="relu", gated_attention="per_head"),
    LinearEluConfig(num_heads=2, feature_map="t2r", gated_attention="per_token"),
    CosformerConfig(num_heads=2, gated_attention="per_token_full"),
    NormLinearConfig(num_heads=2),
    NormLinearConfig(num_heads=4, phi="relu2", norm="rmsnorm", norm_per_head=True),
    SlaConfig(num_heads=2),
    SlaConfig(num_heads=4, conv_width=3, position_table=False),
]
CASES = [
    (config, position, causal)
    for config in CONFIGS
    for position in ("none", *sorted(config.positions))
    for causal in (True, False)
]
every_case = pytest.mark.parametrize(("config", "position", "causal"), CASES)


def there(
    *, causal: bool = True, position: str = "none", d_model: int = 8, context: int = CONTEXT
) -> Surroundings:
    return Surroundings(d_model, context, num_layers=2, causal=causal, position=POSITIONS[position]())


def built(config: LinearAttentionConfig, at: Surroundings) -> Mixer:
    torch.manual_seed(0)
    config.check(at)
    module: Mixer = config.build(at)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module.eval()


def random(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_case
@torch.no_grad()
def test_padding_does_not_change_real_tokens_across_chunks(
    config: LinearAttentionConfig, position: str, causal: bool
) -> None:
    module = built(config, there(position=position, causal=causal)).double()
    x, rubbish = random(2, 60, 8), 100.0 * random(2, 30, 8, seed=3)
    real, padding = torch.ones(2, 60, dtype=torch.bool), torch.zeros(2, 30, dtype=torch.bool)
    alone = module(x)
    right = module(torch.cat([x, rubbish], 1), torch.cat([real, padding], 1))[:, :60]
    torch.testing.assert_close(right, alone, rtol=1e-9, atol=1e-9)
    if not (isinstance(config, SlaConfig) and config.position_table):
        left = module(torch.cat([rubbish, x], 1), torch.cat([padding, real], 1))[:, 30:]
        # tables of angles are float32: weights at shifted positions agree to that precision
        torch.testing.assert_close(left, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("config", "position"), [case[:2] for case in CASES if case[2]])
@torch.no_grad()
def test_tokens_after_a_prompt_equal_the_whole(config: LinearAttentionConfig, position: str) -> None:
    module = built(config, there(position=position)).double()
    x, mask = random(2, 72, 8), torch.ones(2, 72, dtype=torch.bool)
    mask[1, :3] = False
    whole = module(x, mask)
    for prompt in (1, 40, CHUNK):
        slow = module.init_state(2, dtype=torch.float64)
        for t in range(prompt):
            _, slow = module.step(x[:, t : t + 1], slow, torch.tensor(t), mask[:, t : t + 1])
        y, state = module.prefill(x[:, :prompt], mask[:, :prompt])
        torch.testing.assert_close(y[mask[:, :prompt]], whole[:, :prompt][mask[:, :prompt]])
        assert state.keys() == slow.keys()
        for name, value in state.items():
            torch.testing.assert_close(value, slow[name], rtol=1e-9, atol=1e-9)
        for t in range(prompt, prompt + 3):
            y, state = module.step(x[:, t : t + 1], state, torch.tensor(t), mask[:, t : t + 1])
            torch.testing.assert_close(y[mask[:, t]], whole[mask[:, t], t : t + 1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_a_padded_step_leaves_the_state_as_it_is(config: LinearAttentionConfig) -> None:
    module = built(config, there())
    state = module.prefill(random(1, 9, 8, dtype=torch.float32))[1]
    absent = torch.zeros(1, 1, dtype=torch.bool)
    _, after = module.step(random(1, 1, 8, dtype=torch.float32), state, torch.tensor(9), absent)
    assert all(torch.equal(after[name], value) for name, value in state.items())


@pytest.mark.parametrize("config", CONFIGS)
def test_sixteen_bit_layers_keep_their_state_in_float32(config: LinearAttentionConfig) -> None:
    module = built(config, there()).bfloat16()
    state = module.init_state(1, dtype=torch.bfloat16)
    y, after = module.step(random(1, 1, 8, dtype=torch.bfloat16), state, torch.tensor(0))
    assert y.dtype == torch.bfloat16
    prefilled = module.prefill(random(1, 5, 8, dtype=torch.bfloat16))[1]
    for kept in (state, after, prefilled):
        assert {value.dtype for value in kept.values()} == {torch.float32}


@every_case
def test_macs_equal_the_counted_products_across_chunks(
    config: LinearAttentionConfig, position: str, causal: bool
) -> None:
    at = there(position=position, causal=causal)
    module = built(config, at)
    for tokens in (1, CHUNK, CHUNK + 1, CONTEXT):
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, tokens, 8))
        assert counter.get_total_flops() == 2 * config.macs(at, tokens)
        assert config.macs_causal(at, tokens) <= config.macs(at, tokens)


@pytest.mark.parametrize("config", CONFIGS)
def test_decoding_macs_are_those_of_one_step(config: LinearAttentionConfig) -> None:
    """Outer products and the convolution of one row are elementwise to the counter."""
    at = there()
    module = built(config, at)
    with FlopCounterMode(display=False) as counter:
        module.step(torch.zeros(1, 1, 8), module.init_state(1), torch.tensor(0))
    update = config.sums(at).macs_decode() // 2
    taps = config.macs_beside(at, 1) if isinstance(config, SlaConfig) else 0
    assert counter.get_total_flops() == 2 * (config.macs_decode(at, 0) - update - taps)


@pytest.mark.parametrize(("config", "position"), [case[:2] for case in CASES if case[2]])
def test_exports_across_chunks(config: LinearAttentionConfig, position: str, tmp_path: Path) -> None:
    module = built(config, there(position=position))
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    example = random(2, CHUNK + 3, 8, dtype=torch.float32)
    export_module(module, ("x", example), "y", axes, tmp_path / "mixer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mixer.onnx", providers=["CPUExecutionProvider"])
    for batch, tokens in [(1, 1), (2, 2 * CHUNK), (3, CONTEXT)]:
        x = random(batch, tokens, 8, dtype=torch.float32)
        y = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class Op:
    """One operator: what it makes, how large, what it reads. A name made again is written in place."""

    makes: str
    size: int
    reads: Sequence[str] = ()


def counted_peak(schedule: Sequence[Op]) -> int:
    """Most numbers alive at once; a buffer lives from the operator that makes it to its last reader."""
    last = {name: step for step, op in enumerate(schedule) for name in (*op.reads, op.makes)}
    alive: dict[str, int] = {}
    peak = 0
    for step, op in enumerate(schedule):
        alive[op.makes] = op.size
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last[name] > step}
    return peak


def together(names: Sequence[str], size: int, reads: Sequence[str]) -> list[Op]:
    """Outputs of one operator: what it reads lives until all of them are made."""
    return [Op(name, size, reads) for name in names]


def features_made(
    config: LinearAttentionConfig, qkv: tuple[str, str, str], size: int
) -> tuple[list[Op], tuple[str, str]]:
    """Operators that map queries and keys, and the names of the features."""
    q, k, _ = qkv
    if isinstance(config, CosformerConfig):
        sines = together(("sine_q", "sine_k"), size, (q, k))
        return [*sines, *together(("fq", "fk"), 2 * size, ("sine_q", "sine_k", q, k))], ("fq", "fk")
    if isinstance(config, LinearEluConfig) and config.feature_map == "t2r":
        return together(("fq", "fk"), size, (q, k)), ("fq", "fk")
    return [], (q, k)


def sums_made(config: LinearAttentionConfig, at: Surroundings, n: int, q: str, k: str, v: str) -> list[Op]:
    d, heads, sums = at.d_model, config.num_heads, config.sums(at)
    padded, matrices = sums.padded(n), heads * config.feature_width(at) * config.width(at)
    if sums.form == "square":
        return [Op("scores", heads * n * n, (q, k)), Op("mixed", n * d, ("scores", v))]
    if sums.form == "state":
        return [Op("state", matrices, (k, v)), Op("mixed", n * d, ("state", q))]
    chunks = padded // CHUNK
    return [
        Op("sums", chunks * matrices, (k, v)),
        Op("before", chunks * matrices, ("sums",)),
        Op("scores", padded * heads * CHUNK, (q, k)),
        Op("mixed", padded * d, ("scores", v)),
        Op("read", padded * d, ("before", q)),
        Op("mixed", padded * d, ("mixed", "read")),
    ]


def schedule(config: LinearAttentionConfig, at: Surroundings, n: int) -> list[Op]:
    """The module's operators in their order; rotations and norms are counted as elementwise."""
    d, heads, padded = at.d_model, config.num_heads, config.sums(at).padded(n)
    ops = [Op("gate", n * heads)] if config.gate()[0].startswith("per_token") else []
    ops += [Op("x", n * d), *together(("q", "k", "v"), n * d, ("x",))]
    qkv = ("q", "k", "v")
    if padded > n:
        ops += together(("full_q", "full_k", "full_v"), padded * d, qkv)
        qkv = ("full_q", "full_k", "full_v")
    made, (q, k) = features_made(config, qkv, padded * d)
    v, width = qkv[2], heads * config.feature_width(at)
    ops += made
    if config.has_weights:
        running = [Op("z", padded * width, (k,)), Op("weights", padded * heads, (q, "z"))]
        total = [Op("z", width, (k,)), Op("qz", n * width, (q, "z")), Op("weights", n * heads, ("qz",))]
        ops += running if at.causal else total
    ops += sums_made(config, at, n, q, k, v)
    if config.has_weights:
        ops.append(Op("mixed", padded * d, ("mixed", "weights")))
    if isinstance(config, SlaConfig):
        if at.causal:
            ops.append(Op("longer", (padded + config.conv_width - 1) * d, (v,)))
        ops.append(Op("convolved", padded * d, ("longer" if at.causal else v,)))
        ops.append(Op("mixed", padded * d, ("mixed", "convolved")))
    if config.gate()[0].startswith("per_token"):
        ops.append(Op("mixed", padded * d, ("mixed", "gate")))
    return [*ops, Op("out", n * d, ("mixed",))]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("context", "d_model"), [(1, 8), (20, 8), (64, 32), (65, 16), (130, 64)])
def test_activation_peak_is_the_counted_one(
    config: LinearAttentionConfig, causal: bool, context: int, d_model: int
) -> None:
    at = there(causal=causal, d_model=d_model, context=context)
    for tokens in {1, context // 2 + 1, context}:
        assert config.activation_size(at, tokens) == counted_peak(schedule(config, at, tokens)), tokens
