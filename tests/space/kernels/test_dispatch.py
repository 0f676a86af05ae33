"""Which form computes, why, and that modules say the same in both: on a GPU, else in Triton's interpreter."""

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from space.activations import PolyNorm, PolyRelu, Relu2
from space.architecture import Architecture, BytesInterface, LanguageHead, LayerConfig
from space.choice import MixerChoice, Surroundings
from space.feedforward import GluConfig, MoeConfig, NestedConfig
from space.kernels.dispatch import (
    BOTH_WAYS,
    KERNELS,
    OBSERVED,
    Mode,
    fused,
    kernels,
    many_rows,
    reason_against,
    recorded,
)
from space.mixers import (
    GlaConfig,
    LinearEluConfig,
    Mamba2Config,
    RetentionConfig,
    SlidingWindowConfig,
    SoftmaxConfig,
)
from space.model import build_model
from space.norms import RMSNormConfig
from space.norms.crmsnorm import CRMSNorm, UnscaledRMSNorm
from space.norms.rmsnorm import RMSNorm
from space.positions import NonePositionConfig, RopeConfig
from space.quantization import Fp4Linear, Int4Linear, Int8FrozenLinear, Int8Linear, Int8MixedLinear
from space.quantization.int8_dynamic import _filled_product, quantize_rows

AT = Surroundings(d_model=32, context_length=80, num_layers=2, causal=True, position=NonePositionConfig())
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WITH_KERNELS: Mode = "auto" if DEVICE == "cuda" else "interpreter"


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def weights(*shape: int) -> Tensor:
    return random(*shape, seed=1)


MODULES: dict[str, tuple[Callable[[], nn.Module], frozenset[str]]] = {
    "RMSNorm": (lambda: RMSNorm(32), frozenset({"rms_norm"})),
    "UnscaledRMSNorm": (lambda: UnscaledRMSNorm(1e-6), frozenset({"rms_norm"})),
    "CRMSNorm": (lambda: CRMSNorm(1e-6), frozenset({"crms_norm"})),
    "PolyNorm": (PolyNorm, frozenset({"poly_norm"})),
    "PolyRelu": (PolyRelu, frozenset({"poly_relu"})),
    "Relu2": (Relu2, frozenset({"relu2"})),
    "glu": (lambda: GluConfig(d_ff=48).build(AT), frozenset({"gated"})),
    "nested": (lambda: NestedConfig(d_ff=64, gated=True, activation="silu").build(AT), frozenset({"gated"})),
    "moe": (lambda: MoeConfig(d_ff=48, num_experts=4, top_k=2).build(AT), frozenset({"expert_linear"})),
    "moe of gates": (
        lambda: MoeConfig(d_ff=48, num_experts=3, gated=True, activation="silu").build(AT),
        frozenset({"expert_linear", "gated"}),
    ),
}

MIXERS: dict[str, tuple[MixerChoice, frozenset[str]]] = {
    "retention": (RetentionConfig(num_heads=2), frozenset({"faded_sums", "rms_norm"})),
    "gla": (GlaConfig(num_heads=2), frozenset({"faded_sums", "rms_norm"})),
    "gla scalar": (GlaConfig(num_heads=2, gate="scalar"), frozenset({"faded_sums", "rms_norm"})),
    "mamba2": (Mamba2Config(), frozenset({"faded_sums", "rms_norm", "depthwise"})),
    "linear_elu": (LinearEluConfig(num_heads=2), frozenset({"faded_sums"})),
    "sliding_window": (
        SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=9, qkv_dconv=3),
        frozenset({"window_attention", "depthwise"}),
    ),
    "clipped": (
        SoftmaxConfig(num_heads=2, num_kv_heads=2, clipped_softmax=4),
        frozenset({"window_attention", "rms_norm"}),
    ),
}

LINEARS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "int8": (lambda: Int8Linear(*quantize_rows(weights(24, 32))), "int8_linear"),
    "int8_mixed": (lambda: Int8MixedLinear(*quantize_rows(weights(24, 32))), "int8_mixed_linear"),
    "int8_frozen": (lambda: Int8FrozenLinear(weights(24, 32), torch.tensor([3])), "int8_linear"),
    "int4": (lambda: Int4Linear(weights(24, 32), 32), "int4_linear"),
    "fp4": (lambda: Fp4Linear(weights(24, 32)), "fp4_linear"),
}


def both_ways(module: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Tensor], dict[str, str]]:
    """Value and gradients of the plain form and of the kernels, and what was noted of the latter."""
    leaves = [x, *(parameter for parameter in module.parameters())]
    pull = random(*x.shape, seed=2)

    def run() -> list[Tensor]:
        y = module(x)
        grads = torch.autograd.grad(y, leaves, pull, allow_unused=True)
        return [y.detach(), *(torch.zeros(()) if grad is None else grad for grad in grads)]

    with kernels("never"):
        plain = run()
    with kernels(WITH_KERNELS), recorded() as seen:
        return plain, run(), seen


def assert_same(module: nn.Module, used: frozenset[str], *, tokens: int = 80) -> None:
    module, x = module.to(DEVICE), random(2, tokens, 32).requires_grad_()
    plain, fast, seen = both_ways(module, x)
    assert {name for name, note in seen.items() if note == "fused"} == used
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_computes_the_same_with_its_kernel(name: str) -> None:
    torch.manual_seed(0)
    build, used = MODULES[name]
    assert_same(build(), used, tokens=9)


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_computes_the_same_with_its_kernels(name: str) -> None:
    torch.manual_seed(0)
    config, used = MIXERS[name]
    mixer = config.build(AT)
    if (clip := getattr(mixer, "clip", None)) is not None:
        clip.set_progress(1.0)
    assert_same(mixer, used)


@pytest.mark.parametrize("name", ["retention", "gla", "gla scalar", "mamba2", "linear_elu"])
def test_decoding_computes_the_same_with_its_kernel(name: str) -> None:
    torch.manual_seed(0)
    mixer, x = MIXERS[name][0].build(AT).to(DEVICE), random(2, 5, 32)

    def decoded() -> list[Tensor]:
        y, state = mixer.prefill(x[:, :3])
        rows = [y]
        for position in (3, 4):
            y, state = mixer.step(x[:, position : position + 1], state, torch.tensor(position, device=DEVICE))
            rows.append(y)
        return [torch.cat(rows, dim=1), *state.values()]

    with torch.no_grad():
        with kernels("never"):
            plain = decoded()
        with kernels(WITH_KERNELS), recorded() as seen:
            fast = decoded()
    assert seen["faded_step"] == "fused"
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LINEARS)
def test_a_quantized_map_computes_the_same_with_its_kernel(name: str) -> None:
    build, kernel = LINEARS[name]
    module, x = build().to(DEVICE), 3.0 * random(5, 32)
    with torch.no_grad(), kernels(WITH_KERNELS), recorded() as seen:
        fast = module(x)
    assert seen == {kernel: "fused"}
    with kernels("never"):
        torch.testing.assert_close(fast, module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_whole_model_computes_the_same_with_its_kernels(placement: Literal["pre", "post"]) -> None:
    layer = LayerConfig(
        mixer=SlidingWindowConfig(num_heads=2, num_kv_heads=1, window=5),
        feed_forward=GluConfig(d_ff=40),
        norm=RMSNormConfig(),
        placement=placement,
    )
    architecture = Architecture(
        model="decoder",
        interface=BytesInterface(vocab_size=256, context_length=24, outputs=256),
        d_model=32,
        position=RopeConfig(),
        layers=(layer, layer),
        final_norm=RMSNormConfig(),
        head=LanguageHead(),
    )
    model = build_model(architecture, seed=0).to(DEVICE)
    tokens = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found = []
    for mode in ("never", WITH_KERNELS):
        with kernels(mode), recorded() as seen:
            logits = model(tokens)
        grads = torch.autograd.grad(logits.square().mean(), list(model.parameters()))
        found.append([logits.detach(), *grads])
    assert seen == dict.fromkeys(("add_rms_norm", "gated", "rms_norm", "window_attention"), "fused")
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_on_a_cpu_the_plain_form_runs_and_triton_is_not_imported() -> None:
    code = (
        "import sys, torch; from space.norms.rmsnorm import RMSNorm; import space.model;"
        "RMSNorm(8)(torch.ones(2, 8));"
        "assert 'triton' not in sys.modules and 'space.kernels.fused' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_plain_form_says_why() -> None:
    with recorded() as seen:
        RMSNorm(8)(torch.ones(2, 8))
    assert seen == {"rms_norm": "no kernels on cpu"}
    x = torch.ones(2, 8, device=DEVICE)
    with kernels(WITH_KERNELS):
        assert reason_against("rms_norm", (x,)) is None
        assert reason_against("rms_norm", (x.double(),)) == "no kernel for torch.float64"
        assert reason_against("rms_norm", (x, x.half())) == "mixed types: torch.float16, torch.float32"
        assert reason_against("rms_norm", (x[:0],)) == "nothing to compute"
        assert reason_against("faded_sums", (x,), width=200) == "width 200 is more than 128"
        wide = torch.ones(1, 20_000, device=DEVICE)
        assert reason_against("rms_norm", (wide,)) == "width 20000 is more than 16384"
        assert reason_against("int8_linear", (wide,)) is None
        assert reason_against("int8_linear", (x.clone().requires_grad_(),)) == "has no gradient"
        meta = x.to("meta")
        assert reason_against("rms_norm", (meta,)) == "no kernels on meta"
    with kernels("never"):
        assert reason_against("rms_norm", (x,)) == "kernels are switched off"


def test_products_under_autocast_are_those_of_torch() -> None:
    x = torch.ones(2, 8, device=DEVICE)
    with kernels(WITH_KERNELS), torch.autocast(DEVICE, torch.bfloat16):
        assert reason_against("expert_linear", (x,)) == "autocast chooses the types of products"
        assert reason_against("rms_norm", (x,)) is None


@pytest.mark.parametrize("name", ["glu", "moe", "moe of gates", "RMSNorm"])
def test_a_module_gives_the_same_type_under_autocast(name: str) -> None:
    """Tokens that a product before has rounded, weights that are not."""
    torch.manual_seed(0)
    module, x = MODULES[name][0]().to(DEVICE), random(2, 9, 32).bfloat16()
    with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
        with kernels("never"):
            plain = module(x)
        with kernels(WITH_KERNELS):
            fast = module(x)
    assert fast.dtype == plain.dtype
    torch.testing.assert_close(fast, plain, rtol=5e-2, atol=5e-2)


def test_experts_of_another_type_than_their_tokens_run_one_by_one() -> None:
    """A kernel multiplies tensors of one type only."""
    moe = MODULES["moe"][0]().to(DEVICE)
    rows = random(9, 32)
    assert moe._unfused(rows) is None  # type: ignore[operator]  # a method, which nn.Module does not know
    assert "another type" in str(moe._unfused(rows.half()))  # type: ignore[operator]


def test_a_branch_of_another_shape_is_added_by_torch() -> None:
    norm, x, branch = RMSNorm(8).to(DEVICE), random(2, 3, 8), random(1, 3, 8, seed=1)
    with kernels(WITH_KERNELS), recorded() as seen:
        y, total = norm.after_sum(x, branch)
    assert seen["add_rms_norm"] == "a sum of two shapes"
    torch.testing.assert_close(total, x + branch)
    torch.testing.assert_close(y, norm(x + branch))


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 5, 3), (16, 8, 8), (40, 17, 24)])
def test_zeros_around_an_integer_product_change_nothing(rows: int, inputs: int, outputs: int) -> None:
    """cuBLAS refuses few rows and odd sizes, which the plain form of int8 meets in decoding."""
    q, w = quantize_rows(random(rows, inputs))[0], quantize_rows(weights(outputs, inputs))[0]
    assert torch.equal(_filled_product(q, w).cpu(), q.cpu().int() @ w.cpu().int().T)


def test_every_length_of_few_tokens_has_one_reason() -> None:
    """Else a log has one line for every length."""
    assert many_rows(torch.ones(16, 4)) is None
    assert many_rows(torch.ones(17, 4)) == many_rows(torch.ones(3, 30, 4))


def test_a_reason_of_the_caller_counts_after_those_of_the_tensors() -> None:
    x = torch.ones(2, 8, device=DEVICE)
    with kernels(WITH_KERNELS), recorded() as seen:
        assert fused("faded_sums", x, unless=BOTH_WAYS) is None
        assert fused("faded_sums", x) is not None
    assert seen == {"faded_sums": BOTH_WAYS}, "a plain form that ran is what counts"


def test_a_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.ones(2, 8, device="meta")
    with caplog.at_level(logging.INFO, logger="space.kernels.dispatch"):
        for _ in range(3):
            fused("rms_norm", x)
    assert len(caplog.records) <= 1
    assert all(record.__dict__["reason"] == "no kernels on meta" for record in caplog.records)


def test_a_watched_gate_runs_as_a_module() -> None:
    """A proxy that reads activations sees them."""
    glu = GluConfig(d_ff=8).build(AT).to(DEVICE)
    seen: list[Tensor] = []
    (gate,) = glu.nonlinearities()
    gate.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with kernels(WITH_KERNELS), recorded() as notes:
        glu(torch.ones(1, 2, 32, device=DEVICE))
    assert notes["gated"] == OBSERVED
    assert len(seen) == 1


def test_transformations_of_functions_get_the_plain_form() -> None:
    norm, x = RMSNorm(8).to(DEVICE), random(3, 4, 8)
    with kernels(WITH_KERNELS), recorded() as seen:
        torch.testing.assert_close(torch.func.vmap(norm)(x), norm(x))
    assert seen["rms_norm"] == "inside a transformation of torch.func"


@pytest.mark.slow
def test_compiled_code_calls_the_operator() -> None:
    """In a process of its own: there the kernel is not loaded yet when the code is traced."""
    code = """
import sys, torch
from space.kernels.dispatch import kernels
from space.norms.rmsnorm import RMSNorm
mode, device = sys.argv[1:]
norm, x = RMSNorm(8).to(device), torch.randn(3, 8, device=device, requires_grad=True)
graphs = []
def keep(graph, inputs):
    graphs.append(graph)
    return graph
with kernels("never"):
    plain = norm(x)
with kernels(mode):
    y = torch.compile(norm, backend=keep, fullgraph=True)(x)
    exported = torch.export.export(norm, (x,))
torch.testing.assert_close(y, plain)
names = [str(node.target) for node in graphs[0].graph.nodes]
assert any("rms_norm" in name for name in names), names
assert not any("rms_norm" in str(node.target) for node in exported.graph.nodes)
assert any("sqrt" in str(node.target) for node in exported.graph.nodes)
"""
    program = [sys.executable, "-W", "ignore", "-c", code, WITH_KERNELS, DEVICE]
    subprocess.run(program, check=True, timeout=200)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_can_be_loaded(name: str) -> None:
    with kernels(WITH_KERNELS):
        assert fused(name, torch.ones(2, 8, device=DEVICE)) is not None
