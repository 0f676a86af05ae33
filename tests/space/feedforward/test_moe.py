"""Mixture of experts: routing, capacity, balance, number formats, files."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from space.choice import HasAuxiliaryLoss, Surroundings
from space.costs import costs
from space.errors import InvalidArchitectureError
from space.export import export_onnx
from space.feedforward import MlpConfig, MoeConfig
from space.feedforward.moe import BALANCE, CAPACITY, Moe, balance_loss, fits, loads, moe_reference
from space.model import build_model
from space.number_formats import apply_number_formats

MASK = torch.tensor([[True] * 5 + [False] * 2, [False] + [True] * 6])


def eager_to_choose(moe: Moe) -> Moe:
    """With a router whose choices are far apart."""
    with torch.no_grad():
        moe.router.weight.normal_(generator=torch.Generator().manual_seed(1))
    return moe


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_values_and_gradients_equal_the_definition(
    k: int, gated: bool, training: bool, mask: Tensor | None, around: Surroundings, random: Any
) -> None:
    activation = "silu" if gated else "polyrelu"
    config = MoeConfig(activation=activation, d_ff=8, gated=gated, num_experts=4, top_k=k)
    module = eager_to_choose(config.build(around).double().train(training))
    x = random(2, 7, 6).requires_grad_()
    fast = module(x, mask)
    slow = moe_reference(
        x, module.router.weight, list(module.experts), k, capacity=CAPACITY if training else None, mask=mask
    )
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    inputs = [x, *module.parameters()]
    gradients = (torch.autograd.grad((y**2).sum(), inputs, allow_unused=True) for y in (fast, slow))
    for a, b in zip(*gradients, strict=True):
        # the definition never runs an expert that nobody chose
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-12)


def test_one_expert_is_stored_as_the_dense_feed_forward_and_computes_it(
    around: Surroundings, random: Any
) -> None:
    config = MoeConfig(d_ff=8, num_experts=1)
    assert config.canonical(around) == MlpConfig(d_ff=8)
    moe = config.build(around).double().eval()
    x = random(2, 7, 6)
    torch.testing.assert_close(moe(x), moe.experts[0](x), rtol=1e-12, atol=1e-14)


def test_all_experts_at_once_are_the_dense_weighted_sum(around: Surroundings, random: Any) -> None:
    moe = MoeConfig(d_ff=8, num_experts=2, top_k=2).build(around).double().eval()
    x = random(2, 7, 6)
    weights = torch.softmax(x @ moe.router.weight.T, dim=-1)
    expected = sum(weights[..., e, None] * expert(x) for e, expert in enumerate(moe.experts))
    torch.testing.assert_close(moe(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2])
def test_experts_in_another_order_compute_the_same(k: int, around: Surroundings, random: Any) -> None:
    moe = eager_to_choose(MoeConfig(d_ff=8, num_experts=4, top_k=k).build(around).double().eval())
    other, order = copy.deepcopy(moe), [2, 0, 3, 1]
    with torch.no_grad():
        other.router.weight.copy_(moe.router.weight[order])
    other.experts = nn.ModuleList(moe.experts[index] for index in order)
    x = random(2, 7, 6)
    torch.testing.assert_close(other(x), moe(x), rtol=1e-12, atol=1e-14)


def test_loads_count_every_choice_of_a_real_token_once() -> None:
    chosen = torch.tensor([[0, 1], [3, 1], [1, 0], [2, 3]])
    real = torch.tensor([True, True, True, False])
    assert loads(chosen, torch.ones_like(real), 4).tolist() == [2, 3, 1, 2]
    assert loads(chosen, real, 4).tolist() == [2, 3, 0, 1]
    assert int(loads(chosen, real, 4).sum()) == 2 * int(real.sum())


def test_an_expert_takes_the_first_real_tokens_up_to_its_capacity() -> None:
    chosen = torch.tensor([0, 0, 0, 1, 0, 0])[:, None]
    everyone = torch.ones(6, dtype=torch.bool)
    # capacity ceil(1.25 * 6 / 2) = 4, of four real tokens ceil(1.25 * 4 / 2) = 3
    assert fits(chosen, everyone, 2)[:, 0].tolist() == [True, True, True, True, True, False]
    padded = torch.tensor([False, True, True, False, True, True])
    assert fits(chosen, padded, 2)[:, 0].tolist() == [False, True, True, False, True, False]


def test_what_overflows_in_training_passes_by_and_nothing_does_in_evaluation(
    around: Surroundings,
) -> None:
    moe = MoeConfig(d_ff=8, num_experts=4).build(around).double()
    x = torch.ones(1, 8, 6, dtype=torch.float64)  # equal tokens want the same expert, which takes 3 of 8
    y = moe(x)
    assert torch.equal(y[0, 3:], torch.zeros(5, 6, dtype=torch.float64))
    assert bool((y[0, :3] != 0).any(dim=-1).all())
    torch.testing.assert_close(moe.eval()(x), y[:, :1].expand(1, 8, 6))


def test_the_balance_loss_is_least_at_equal_loads() -> None:
    everyone = torch.ones(8, dtype=torch.bool)
    equal = torch.full((8, 4), 0.25)
    even = torch.arange(8)[:, None] % 4
    assert float(balance_loss(equal, even, everyone)) == pytest.approx(BALANCE)
    lopsided = torch.tensor([0.7, 0.1, 0.1, 0.1]).expand(8, 4)
    crowded = torch.zeros(8, 1, dtype=torch.int64)
    assert float(balance_loss(lopsided, crowded, everyone)) == pytest.approx(BALANCE * 4 * 0.7)
    nobody = torch.zeros(8, dtype=torch.bool)
    assert float(balance_loss(lopsided, crowded, nobody)) == 0.0


def test_the_balance_loss_alone_spreads_the_tokens_over_the_experts(
    around: Surroundings, random: Any
) -> None:
    moe = MoeConfig(d_ff=8, num_experts=4).build(around).double()
    x = random(1, 64, 6) + 2.0
    with torch.no_grad():
        moe.router.weight.copy_(0.1 * random(4, 6))
        moe.router.weight[0] += 0.2  # nearly all tokens want the first

    def most_loaded() -> int:
        chosen = (x[0] @ moe.router.weight.T).argmax(dim=-1, keepdim=True)
        return int(loads(chosen, torch.ones(64, dtype=torch.bool), 4).max())

    before = most_loaded()
    for _ in range(100):
        moe.auxiliary_loss = None
        moe(x)
        assert moe.auxiliary_loss is not None
        (gradient,) = torch.autograd.grad(moe.auxiliary_loss, moe.router.weight)
        with torch.no_grad():
            moe.router.weight -= 2.0 * gradient
    assert before > 55
    assert most_loaded() < 45


def test_padded_tokens_do_not_count_in_the_balance(around: Surroundings, random: Any) -> None:
    moe = MoeConfig(d_ff=8, num_experts=4, top_k=2).build(around).double()
    x = random(2, 7, 6)
    moe(x, MASK)
    padded = moe.auxiliary_loss
    moe.auxiliary_loss = None
    moe(x[MASK][None])
    torch.testing.assert_close(padded, moe.auxiliary_loss)


def test_the_loss_to_add_is_there_after_training_passes_only(decoder: Any) -> None:
    model = build_model(decoder({"kind": "moe", "d_ff": 16}), seed=0).train()
    tokens = torch.arange(12).reshape(1, 12)
    model(tokens)
    first = model.auxiliary_loss()
    model(tokens)
    again = model.auxiliary_loss()
    assert first is not None
    assert again is not None
    torch.testing.assert_close(first, again)
    assert BALANCE < float(first.detach()) < 3 * BALANCE  # two layers, about equal loads
    assert copy.deepcopy(model).auxiliary_loss() is None
    model.eval()(tokens)
    assert model.auxiliary_loss() is None


def test_experts_shared_over_the_depth_with_private_norms(decoder: Any) -> None:
    """WideNet (Xue et al. 2021, arXiv:2107.11817)."""
    feed_forward = {"kind": "moe", "d_ff": 16}
    wide = decoder(feed_forward, depth=3, model={"sharing": {"kind": "all", "private_norm": True}})
    model = build_model(wide, seed=0).train()
    assert sum(parameter.numel() for parameter in model.parameters()) == costs(wide).params
    assert costs(wide).params - costs(decoder(feed_forward, depth=1)).params == 2 * 2 * 16
    assert model.blocks[0].feed_forward is model.blocks[2].feed_forward
    assert isinstance(model.blocks[0].feed_forward, HasAuxiliaryLoss)
    model(torch.arange(12).reshape(1, 12))
    total = model.auxiliary_loss()
    assert total is not None
    assert float(total.detach()) > 2.5 * BALANCE  # every one of the three applications adds its own


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "polynorm"])
def test_active_parameters_are_those_of_the_chosen_experts(
    gated: bool, activation: str, decoder: Any
) -> None:
    if gated and activation == "polynorm":
        activation = "silu"
    wide = {"kind": "moe", "d_ff": 16, "gated": gated, "activation": activation, "num_experts": 4, "top_k": 2}
    counted, chosen = costs(decoder(wide)), costs(decoder({**wide, "num_experts": 2}))
    assert counted.params > counted.active_params
    routers = 2 * 16 * (4 - 2)
    assert counted.active_params == chosen.params + routers


def test_more_experts_per_token_than_there_are_is_refused(decoder: Any) -> None:
    with pytest.raises(InvalidArchitectureError, match="top_k=4 is more than num_experts=2"):
        decoder({"kind": "moe", "d_ff": 16, "num_experts": 2, "top_k": 4})


@pytest.mark.parametrize("number_format", ["fp32", "int8_dynamic", "int4_g32"])
@pytest.mark.parametrize("k", [1, 2])
def test_the_router_stays_float_and_the_file_computes_what_the_model_does(
    number_format: str, k: int, decoder: Any, tmp_path: Path
) -> None:
    feed_forward = {"kind": "moe", "d_ff": 32, "num_experts": 4, "top_k": k}
    width = {"d_model": 32}  # one group of int4
    architecture = decoder(feed_forward, layer={"number_format": number_format}, model=width)
    model = build_model(architecture, seed=0)
    for block in model.blocks:
        moe = block.get_submodule("feed_forward")
        assert isinstance(moe, Moe)
        eager_to_choose(moe)
    running = apply_number_formats(model, architecture)
    router = running.get_submodule("blocks.0.feed_forward.router")
    assert isinstance(router, nn.Linear)
    assert router.weight.dtype == torch.float32
    expert = running.get_submodule("blocks.0.feed_forward.experts.0.up")
    assert isinstance(expert, nn.Linear) == (number_format == "fp32")
    path = export_onnx(model, architecture, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for batch, length in ((1, 1), (2, 12), (3, 5)):  # one token leaves experts without any
        tokens = torch.randint(0, 16, (batch, length), generator=generator)
        (found,) = session.run(None, {"tokens": tokens.numpy()})
        with torch.inference_mode():
            expected = running(tokens).numpy()
        close = 0.1 if number_format == "int8_dynamic" else 1e-5
        assert float(np.abs(found - expected).max()) < close * float(expected.std())
