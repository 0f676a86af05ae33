"""Layers that share their weights (E7): counted once, applied often, each with a state of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from space.architecture import Architecture, canonicalise, parse_architecture
from space.costs import costs
from space.errors import InvalidArchitectureError
from space.export import export_onnx, load_folder, write_folder
from space.model import Block, Model, build_model

D_MODEL, TOKENS = 16, 12
SOFTMAX = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}
CONV = {"kind": "gated_conv", "width": 3, "gates": 1}
SHARINGS: list[dict[str, Any]] = [
    {"kind": "all"},
    {"kind": "all", "private_norm": True},
    {"kind": "groups", "groups": 2, "order": "repeat"},
    {"kind": "groups", "groups": 2, "order": "cycle", "private_norm": True},
]


def layer(mixer: dict[str, Any] = SOFTMAX, **more: Any) -> dict[str, Any]:
    feed_forward = {"kind": "glu", "activation": "silu", "d_ff": 24}
    return {"mixer": mixer, "feed_forward": feed_forward, "norm": {"kind": "layernorm"}, **more}


def architecture(layers: list[dict[str, Any]], **more: Any) -> Architecture:
    point = {
        "model": "decoder",
        "interface": {"input": "bytes", "vocab_size": 40, "context_length": TOKENS, "outputs": 40},
        "d_model": D_MODEL,
        "position": {"kind": "rope"},
        "layers": layers,
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language"},
    }
    return parse_architecture({**point, **more})


def trained(point: Architecture) -> Model:
    model = build_model(point, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(spread * noise if parameter.ndim > 1 else parameter + spread * noise)
    return model.eval()


def tokens(length: int = TOKENS) -> Tensor:
    return torch.randint(40, (2, length), generator=torch.Generator().manual_seed(0))


def blocks(model: Model) -> list[Block]:
    found = [block for block in model.blocks if isinstance(block, Block)]
    assert len(found) == len(model.blocks)
    return found


def unshared(model: Model, point: Architecture) -> tuple[Model, Architecture]:
    """A model of the same function in which every layer has its own copy of the weights."""
    free = point.model_copy(update={"sharing": architecture([layer()]).sharing})
    twin = build_model(free, seed=5).double().eval()
    twin.load_state_dict(model.state_dict())
    return twin, free


@pytest.mark.parametrize("sharing", SHARINGS)
def test_shared_weights_are_the_same_objects_and_count_once(sharing: dict[str, Any]) -> None:
    point = architecture([layer()] * 4, sharing=sharing)
    model = build_model(point, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == costs(point).params
    for index, owner in enumerate(point.owners):
        here, there = blocks(model)[index], blocks(model)[owner]
        assert here.mixer is there.mixer
        assert here.feed_forward is there.feed_forward
        same_norm = here.mixer_norm is there.mixer_norm
        assert same_norm == (index == owner or not sharing.get("private_norm", False))
    distinct = {id(block.mixer) for block in blocks(model)}
    assert len(distinct) == len(set(point.owners)) == (1 if sharing["kind"] == "all" else 2)


def test_private_norms_cost_their_parameters_and_nothing_else_changes() -> None:
    shared, private = (architecture([layer()] * 4, sharing=sharing) for sharing in SHARINGS[:2])
    assert costs(private).params - costs(shared).params == 3 * 2 * 2 * D_MODEL
    own = costs(architecture([layer()] * 4))
    for name in ("macs", "macs_causal", "macs_decode", "state_bytes", "activation_bytes"):
        assert getattr(costs(shared), name) == getattr(costs(private), name) == getattr(own, name)
    assert costs(shared).params < own.params


def test_orders_of_groups() -> None:
    repeat, cycle = (architecture([layer()] * 4, sharing=sharing) for sharing in SHARINGS[2:])
    assert repeat.owners == (0, 0, 2, 2)
    assert cycle.owners == (0, 1, 0, 1)
    odd = architecture([layer()] * 5, sharing={"kind": "groups", "groups": 2})
    assert odd.owners == (0, 0, 0, 3, 3)


def test_e7_one_layer_or_a_group_per_layer_is_no_sharing() -> None:
    one = architecture([layer()], sharing={"kind": "all"})
    assert one.id == architecture([layer()]).id
    every = architecture([layer(), layer(CONV)], sharing={"kind": "groups", "groups": 2})
    assert every.id == architecture([layer(), layer(CONV)]).id
    single = architecture([layer()] * 3, sharing={"kind": "groups", "groups": 1})
    assert single.id == architecture([layer()] * 3, sharing={"kind": "all"}).id
    assert canonicalise(single) == single


def test_layers_that_differ_cannot_share() -> None:
    with pytest.raises(InvalidArchitectureError, match="layer 1 shares the weights of layer 0"):
        architecture([layer(), layer(CONV)], sharing={"kind": "all"})


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_same_as_copies_in_values_and_summed_gradients(sharing: dict[str, Any]) -> None:
    point = architecture([layer()] * 4, sharing=sharing)
    model = trained(point)
    twin, _ = unshared(model, point)
    ours, theirs = model(tokens()), twin(tokens())
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for y in (ours, theirs):
        (y**2).mean().backward()
    copies = dict(twin.named_parameters())
    for index, owner in enumerate(point.owners):
        if index != owner:
            continue
        group = [i for i, other in enumerate(point.owners) if other == owner]
        summed = torch.stack([gradient_of(copies[f"blocks.{i}.mixer.qkv.weight"]) for i in group]).sum(0)
        found = gradient_of(blocks(model)[index].mixer.get_parameter("qkv.weight"))
        torch.testing.assert_close(found, summed, rtol=1e-9, atol=1e-12)


def gradient_of(parameter: nn.Parameter | Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("mixer", [SOFTMAX, CONV], ids=["softmax", "gated_conv"])
@torch.no_grad()
def test_every_application_has_a_state_of_its_own(sharing: dict[str, Any], mixer: dict[str, Any]) -> None:
    point = architecture([layer(mixer)] * 4, sharing=sharing)
    model = trained(point)
    states = model.init_state(2, dtype=torch.float64)
    assert len(states) == 4
    assert len({id(tensor) for state in states for tensor in state.values()}) == 4 * len(states[0])
    whole = model(tokens())
    for t in range(TOKENS):
        logits, states = model.step(tokens()[:, t], states, torch.tensor(t))
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-6, atol=1e-6)
    name = next(iter(states[0]))
    assert not torch.allclose(states[0][name], states[1][name])


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_file_computes_the_same_and_stores_shared_weights_once(
    sharing: dict[str, Any], tmp_path: Path
) -> None:
    point = architecture([layer()] * 4, sharing=sharing)
    model = trained(point).float()
    path = export_onnx(model, point, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for length in (1, 5, TOKENS):
        y = session.run(None, {"tokens": tokens(length).numpy()})[0]
        expected = model(tokens(length)).detach().numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    wide = [one for one in onnx.load(path).graph.initializer if list(one.dims) == [D_MODEL, 2 * D_MODEL]]
    assert len(wide) == len(set(point.owners))  # W_qkv


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_published_folder_gives_the_model_back(sharing: dict[str, Any], tmp_path: Path) -> None:
    point = architecture([layer()] * 4, sharing=sharing)
    model = trained(point).float()
    write_folder(model, point, tmp_path / "folder", formats=("torch",))
    loaded, found = load_folder(tmp_path / "folder")
    assert found.id == point.id
    assert torch.equal(loaded(tokens()), model(tokens()))
    assert isinstance(loaded, Model)
    assert len({id(block.mixer) for block in blocks(loaded)}) == len(set(point.owners))
