"""What every registered token mixer owes, whatever it computes; a new one is covered by being registered.

Each mixer comes with its defaults and with every gene moved to each of its other values, one at a time.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from space.choice import Foldable, Mixer, MixerChoice, Scheduled, Surroundings
from space.errors import InvalidArchitectureError, InvalidInputError
from space.export.onnx import export_module
from space.layer_options import mixer_config
from space.mixers import MIXERS, MixerConfig
from space.positions import POSITIONS
from space.roles import HasRoles

D_MODEL, CONTEXT, GRID = 16, 40, (5, 8)
SMALL = {
    "window": (5,), "head_width": (8, 16), "kv_heads": ("one", "full"), "heads": (0,),
    "qkv_dconv": (0, 3, 5), "clipped_softmax": (0, 4), "own_head_width": (0, 6),
}  # fmt: skip
"""Values for genes whose own defaults would show nothing at this width and length."""


def surroundings(
    *, causal: bool, position: str = "none", context: int = CONTEXT, d_model: int = D_MODEL,
    rank_ratio: float = 1.0, grid: tuple[int, int] | None = None,
) -> Surroundings:  # fmt: skip
    return Surroundings(
        d_model=d_model, context_length=context, num_layers=2, causal=causal,
        position=POSITIONS[position](), grid=grid, rank_ratio=rank_ratio,
    )  # fmt: skip


def variants(kind: str, at: Surroundings) -> Iterator[MixerChoice]:
    """Defaults, then one gene at a time."""
    genes = {gene.name: gene for gene in MIXERS[kind].genes.values()}
    base = {name: SMALL.get(name, gene.default)[0] for name, gene in genes.items()}
    yield mixer_config({"mixer": kind, **base}, at)
    for name, gene in genes.items():
        others = (False, True) if isinstance(gene.default[0], bool) else gene.values or gene.default
        for value in SMALL.get(name, others):
            yield mixer_config({"mixer": kind, **base, name: value}, at)


@dataclass(frozen=True)
class Case:
    """A config and where it stands. `is_plain`: the defaults without position: what test-fast runs."""

    config: MixerChoice
    at: Surroundings
    is_plain: bool

    @property
    def name(self) -> str:
        way = "causal" if self.at.causal else "both"
        return f"{self.config.model_dump_json()}-{way}-{self.at.position.kind}"


def cases() -> list[Case]:
    """Each config in its ways; the defaults with every position they read."""
    found: dict[str, Case] = {}
    for kind, config in MIXERS.items():
        for causal in (True, False):
            if not (config.causal if causal else config.bidirectional):
                continue
            for index, variant in enumerate(variants(kind, surroundings(causal=causal))):
                positions = sorted(variant.positions - {"alibi"}) if index == 0 else []
                for position in ("none", *positions):
                    at = surroundings(causal=causal, position=position)
                    case = Case(variant, at, is_plain=index == 0 and position == "none")
                    found.setdefault(case.name, case)
    return list(found.values())


def over(
    chosen: Callable[[Case], bool], *, others: pytest.MarkDecorator = pytest.mark.slow
) -> pytest.MarkDecorator:
    """Parametrises a test by the chosen cases; `others`: the mark of those that are not plain."""
    return pytest.mark.parametrize(
        ("config", "at"),
        [
            pytest.param(case.config, case.at, id=case.name, marks=[] if case.is_plain else others)
            for case in cases()
            if chosen(case)
        ],
    )


every_case = over(lambda case: True)
plain_first = over(lambda case: True, others=pytest.mark.soak)
"""For what a gene's value hardly changes."""
every_plain_case = over(lambda case: case.at.position.kind == "none")
every_decodable_case = over(lambda case: case.at.causal and case.config.decodable)


def built(config: MixerChoice, at: Surroundings, *, seed: int = 0) -> Mixer:
    """With weights large enough for differences to show, each matrix scaled by its inputs."""
    torch.manual_seed(seed)
    config.check(at)
    module = config.build(at)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    for child in module.modules():
        if isinstance(child, Scheduled):
            child.set_progress(1.0)
    return module


def folded(module: nn.Module) -> nn.Module:
    """As inference runs it: closed-form costs are of this form."""
    for name, child in list(module.named_children()):
        setattr(module, name, child.folded() if isinstance(child, Foldable) else folded(child))
    return module


def random(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@plain_first
def test_keeps_shape_and_type_at_every_length(config: MixerChoice, at: Surroundings) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        module = built(config, at).to(dtype)
        for batch, tokens in [(1, 1), (3, 2), (1, 5), (2, CONTEXT)]:
            y = module(random(batch, tokens, D_MODEL, dtype=dtype))
            assert y.shape == (batch, tokens, D_MODEL)
            assert y.dtype == dtype
            assert torch.isfinite(y).all()


@every_plain_case
def test_reads_nothing_beyond_its_reach(config: MixerChoice, at: Surroundings) -> None:
    tokens = 17
    module = built(config, at).double()
    reach = config.reach(at)
    for i in (0, 7, tokens - 1):
        x = random(1, tokens, D_MODEL).requires_grad_()
        (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
        seen = gradient[0].abs().sum(-1)
        for j in range(tokens):
            behind = i - j
            if abs(behind) > reach or (at.causal and behind < 0):
                assert seen[j] == 0, (i, j)
        if i == tokens - 1:
            assert seen.sum() > 0


@every_case
def test_padding_does_not_change_real_tokens(config: MixerChoice, at: Surroundings) -> None:
    module = built(config, at).double()
    x = random(2, 11, D_MODEL)
    rubbish = 100.0 * random(2, 6, D_MODEL, seed=3)
    real, padding = torch.ones(2, 11, dtype=torch.bool), torch.zeros(2, 6, dtype=torch.bool)
    if config.padding == "packed":
        with pytest.raises(InvalidInputError):
            module(torch.cat([x, rubbish], 1), torch.cat([real, padding], 1))
        return
    alone = module(x)
    right = module(torch.cat([x, rubbish], 1), torch.cat([real, padding], 1))[:, :11]
    torch.testing.assert_close(right, alone, rtol=1e-9, atol=1e-9)
    if config.positional_by_slot:
        return
    left = module(torch.cat([rubbish, x], 1), torch.cat([padding, real], 1))[:, 6:]
    # tables are float32: scores at shifted positions agree to that precision
    torch.testing.assert_close(left, alone, rtol=2e-5, atol=2e-5)


@plain_first
def test_a_mask_of_real_tokens_only_changes_nothing(config: MixerChoice, at: Surroundings) -> None:
    module = built(config, at).double()
    x = random(2, 13, D_MODEL)
    everything = torch.ones(2, 13, dtype=torch.bool)
    torch.testing.assert_close(module(x, everything), module(x), rtol=1e-10, atol=1e-10)


@every_case
def test_gradients_are_finite_at_every_scale(config: MixerChoice, at: Surroundings) -> None:
    module = built(config, at)
    mask = torch.tensor([[True] * 9, [False] * 3 + [True] * 6]) if config.padding != "packed" else None
    for scale in (0.0, 1e-3, 1.0, 1e3):
        x = (scale * random(2, 9, D_MODEL, dtype=torch.float32)).requires_grad_()
        y = module(x, mask)
        gradients = torch.autograd.grad(y.square().mean(), [x, *module.parameters()], allow_unused=True)
        assert torch.isfinite(y).all()
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


@every_plain_case
@pytest.mark.parametrize("rank_ratio", [1.0, 0.25])
def test_counted_parameters_equal_the_formula(
    config: MixerChoice, at: Surroundings, rank_ratio: float
) -> None:
    there = surroundings(causal=at.causal, rank_ratio=rank_ratio, d_model=32)
    try:
        config.check(there)
    except InvalidArchitectureError:
        return
    module = config.build(there)
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(there)
    shapes = sorted((m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear))
    declared = sorted(shape for m in config.maps(there) for shape in m.matrices(rank_ratio) * m.copies)
    assert shapes == declared


@every_plain_case
def test_counted_macs_equal_the_formula(config: MixerChoice, at: Surroundings) -> None:
    for tokens in (1, 5, 23, 40):
        module = folded(built(config, at))
        x, everything = torch.zeros(1, tokens, D_MODEL), torch.ones(1, tokens, dtype=torch.bool)
        with FlopCounterMode(display=False) as counter:  # with a mask attention is plain matrix products
            module(x, everything)
        assert counter.get_total_flops() == 2 * config.macs(at, tokens), tokens
        assert config.macs_causal(at, tokens) <= config.macs(at, tokens)


@plain_first
def test_survives_json_state_dict_and_deepcopy(config: MixerChoice, at: Surroundings) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(MixerConfig)
    assert adapter.validate_json(config.model_dump_json()) == config
    module = built(config, at)
    x = random(2, 7, D_MODEL, dtype=torch.float32)
    other = built(config, at, seed=5)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


@every_case
def test_exports_with_free_batch_and_length(config: MixerChoice, at: Surroundings, tmp_path: Path) -> None:
    module = built(config, at).eval()
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    example = random(2, 9, D_MODEL, dtype=torch.float32)
    export_module(module, ("x", example), "y", axes, tmp_path / "mixer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mixer.onnx", providers=["CPUExecutionProvider"])
    for batch, tokens in [(1, 1), (2, 8), (3, CONTEXT)]:
        x = random(batch, tokens, D_MODEL, dtype=torch.float32)
        y = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=2e-4, atol=2e-4)


@plain_first
def test_every_parameter_has_a_role_and_parts_fill_the_weight(config: MixerChoice, at: Surroundings) -> None:
    module = built(config, at)
    roles = {
        f"{prefix}.{name}".lstrip("."): role
        for prefix, child in module.named_modules()
        if isinstance(child, HasRoles)
        for name, role in child.parameter_roles().items()
    }
    parameters = dict(module.named_parameters())
    assert set(roles) == set(parameters)
    for name, role in roles.items():
        assert not role.parts or sum(role.parts) == parameters[name].shape[0]


@every_decodable_case
@torch.no_grad()
def test_token_by_token_equals_the_whole(config: MixerChoice, at: Surroundings) -> None:
    module = built(config, at).double().eval()
    x = random(2, 23, D_MODEL)
    whole = module(x)
    state = module.init_state(2, dtype=torch.float64)
    before = {name: value.clone() for name, value in state.items()}
    first = state
    for t in range(23):
        y, state = module.step(x[:, t : t + 1], state, torch.tensor(t))
        # tables are float32, chunked sums run in another order
        torch.testing.assert_close(y, whole[:, t : t + 1], rtol=2e-5, atol=2e-5, msg=f"token {t}")
    assert all(torch.equal(first[name], value) for name, value in before.items())
    kept = sum(value.numel() for value in state.values()) // 2
    assert kept == config.state_size(at, 23)
    prompt, after = module.prefill(x[:, :9])
    torch.testing.assert_close(prompt, whole[:, :9], rtol=2e-5, atol=2e-5)
    for t in range(9, 13):
        y, after = module.step(x[:, t : t + 1], after, torch.tensor(t))
        torch.testing.assert_close(y, whole[:, t : t + 1], rtol=2e-5, atol=2e-5, msg=f"token {t} after 9")


@every_decodable_case
@torch.no_grad()
def test_left_padding_is_harmless_in_decoding(config: MixerChoice, at: Surroundings) -> None:
    module = built(config, at).double().eval()
    x = random(2, 12, D_MODEL)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, :4] = False
    whole = module(x, mask)
    state = module.init_state(2, dtype=torch.float64)
    for t in range(12):
        y, state = module.step(x[:, t : t + 1], state, torch.tensor(t), mask[:, t : t + 1])
        real = mask[:, t]
        torch.testing.assert_close(y[real], whole[:, t : t + 1][real], rtol=2e-5, atol=2e-5, msg=f"{t}")


IMAGES = [
    next(iter(variants(kind, surroundings(causal=False, grid=GRID))))
    for kind, config in MIXERS.items()
    if config.bidirectional
]


@pytest.mark.parametrize("config", IMAGES, ids=lambda config: config.kind)
def test_on_an_image_grid(config: MixerChoice, tmp_path: Path) -> None:
    at = surroundings(causal=False, grid=GRID)
    module = built(config, at).eval()
    x = random(2, CONTEXT, D_MODEL, dtype=torch.float32)
    assert module(x).shape == x.shape
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(at)
    with FlopCounterMode(display=False) as counter:
        module(x[:1], torch.ones(1, CONTEXT, dtype=torch.bool))
    assert counter.get_total_flops() == 2 * config.macs(at, CONTEXT)
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    export_module(module, ("x", x), "y", axes, tmp_path / "mixer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mixer.onnx", providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": x[:1].numpy()})[0]
    np.testing.assert_allclose(y, module(x)[:1].detach().numpy(), rtol=2e-4, atol=2e-4)
