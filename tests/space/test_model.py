"""Architecture -> module: shapes, composition, seeds, roles, masks."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from space.architecture import Architecture, BytesInterface, LanguageHead, parse_architecture
from space.errors import InvalidArchitectureError, InvalidInputError
from space.model import Block, build_model, parameter_roles
from space.roles import ROLES

SOFTMAX = {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}
MIXERS: list[dict[str, Any]] = [
    SOFTMAX,
    {"kind": "linear_elu", "num_heads": 4},
    {"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 4, "window": 4},
    {"kind": "gated_conv", "width": 3, "gates": 1},
    {"kind": "pool", "width": 3},
]


def layer(mixer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    feed_forward = {"kind": "glu", "activation": "silu", "d_ff": 20}
    return {"mixer": mixer, "feed_forward": feed_forward, "norm": {"kind": "layernorm"}, **changes}


def architecture(**changes: Any) -> Architecture:
    point = {
        "model": "decoder",
        "interface": {"input": "bytes", "vocab_size": 50, "context_length": 12, "outputs": 50},
        "d_model": 16,
        "position": {"kind": "learned"},
        "layers": [layer(mixer) for mixer in MIXERS],
        "final_norm": {"kind": "rmsnorm"},
        "head": {"kind": "language"},
    }
    return parse_architecture({**point, **changes})


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(0))


CLASSIFIER: dict[str, Any] = {"model": "encoder", "head": {"kind": "classification"}}


def test_every_interface_gives_its_logits() -> None:
    assert build_model(architecture())(tokens(2, 7)).shape == (2, 7, 50)
    bytes_in = {"input": "bytes", "vocab_size": 50, "context_length": 12, "outputs": 3}
    assert build_model(architecture(**CLASSIFIER, interface=bytes_in))(tokens(2, 7)).shape == (2, 3)
    values = {"input": "values", "channels": 5, "context_length": 12, "outputs": 3}
    assert build_model(architecture(**CLASSIFIER, interface=values))(torch.zeros(2, 7, 5)).shape == (2, 3)
    image = {"input": "image", "height": 8, "width": 4, "channels": 3, "patch_size": 2, "outputs": 6}
    vision = architecture(model="vision", head={"kind": "classification"}, interface=image)
    assert build_model(vision)(torch.zeros(2, 3, 8, 4)).shape == (2, 6)


def test_patches_are_a_linear_map_in_reading_order() -> None:
    image = {"input": "image", "height": 4, "width": 6, "channels": 2, "patch_size": 2, "outputs": 6}
    model = build_model(
        architecture(model="vision", head={"kind": "classification"}, interface=image), seed=0
    )
    x = torch.randn(1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    weight = model.get_parameter("embedding.weight").flatten(1)
    expected = [
        weight @ x[0, :, row : row + 2, column : column + 2].flatten()
        for row in (0, 2)
        for column in (0, 2, 4)
    ]
    torch.testing.assert_close(model.embedding(x)[0], torch.stack(expected))


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("residual", ["serial", "parallel"])
def test_block_is_the_written_composition(placement: str, residual: str) -> None:
    point = architecture(layers=[layer(SOFTMAX, placement=placement, residual=residual)])
    block = build_model(point, seed=0).blocks[0]
    assert isinstance(block, Block)
    n1, n2, mix, ffn = block.mixer_norm, block.feed_forward_norm, block.mixer, block.feed_forward
    assert ffn is not None
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    if (placement, residual) == ("pre", "serial"):
        assert n2 is not None
        y = x + mix(n1(x))
        y = y + ffn(n2(y))
    elif placement == "pre":
        assert n2 is not None
        y = x + mix(n1(x)) + ffn(n2(x))
    elif residual == "serial":
        assert n2 is not None
        y = n1(x + mix(x))
        y = n2(y + ffn(y))
    else:
        y = n1(x + mix(x) + ffn(x))
        assert n2 is None
    torch.testing.assert_close(block(x), y)


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, two, other = (build_model(architecture(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    same = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(one.get_parameter("embedding.weight"), other.get_parameter("embedding.weight"))


def test_weights_start_at_the_documented_spread() -> None:
    wide = architecture(d_model=128, layers=[layer(SOFTMAX)] * 2, position={"kind": "rope"})
    model = build_model(wide, seed=0)
    # a normal distribution cut at two deviations has 0.88 of its spread
    expected = {"mixer.in": 0.88 * 0.02, "mixer.out": 0.88 * 0.02 / 2, "ffn.out": 0.88 * 0.02 / 2}
    for name, role in parameter_roles(model).items():
        if role.role in expected:
            assert model.get_parameter(name).std().item() == pytest.approx(expected[role.role], rel=0.05)


def test_roles_name_every_parameter_once_with_its_layer() -> None:
    model = build_model(architecture(), seed=0)
    roles = parameter_roles(model)
    assert set(roles) == {name for name, _ in model.named_parameters()}
    assert {role.role for role in roles.values()} <= set(ROLES)
    for name, role in roles.items():
        assert role.layer == (int(name.split(".")[1]) if name.startswith("blocks.") else None)
    assert roles["blocks.0.mixer.qkv.weight"].parts == (16, 8, 8)
    assert roles["position.table"].role == "pos"


def test_a_tied_head_uses_the_embedding_and_stores_it_once() -> None:
    model = build_model(architecture(head={"kind": "language", "tied": True}), seed=0)
    assert not [name for name in model.state_dict() if name.startswith("head")]
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.get_parameter("embedding.weight").zero_()
    assert not twin(tokens(1, 3)).any()
    assert model(tokens(1, 3)).any()


def test_a_tied_head_with_other_outputs_is_refused() -> None:
    interface: dict[str, Any] = {"input": "bytes", "vocab_size": 50, "context_length": 12, "outputs": 49}
    head = {"kind": "language", "tied": True}
    with pytest.raises(InvalidArchitectureError, match="outputs=49"):
        architecture(head=head, interface=interface)
    values = {"input": "values", "channels": 2, "context_length": 12, "outputs": 50}
    with pytest.raises(InvalidArchitectureError, match="tied"):
        architecture(model="encoder", head=head, interface=values)
    unchecked = architecture().model_copy(
        update={"head": LanguageHead(tied=True), "interface": BytesInterface(**interface)}
    )
    with pytest.raises(InvalidArchitectureError, match="outputs=49"):
        build_model(unchecked)


def test_more_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="13 tokens"):
        build_model(architecture())(tokens(1, 13))


def test_decoder_logits_do_not_depend_on_later_tokens() -> None:
    model = build_model(architecture(), seed=0).double()
    first = tokens(1, 12)
    second = first.clone()
    second[0, 7:] = (second[0, 7:] + 1) % 50
    torch.testing.assert_close(model(first)[:, :7], model(second)[:, :7], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(model(first)[:, 7:], model(second)[:, 7:])


def test_classification_ignores_padding() -> None:
    interface = {"input": "bytes", "vocab_size": 50, "context_length": 12, "outputs": 3}
    model = build_model(architecture(**CLASSIFIER, interface=interface), seed=0).double()
    x = tokens(2, 7)
    padded = torch.cat([x, torch.full((2, 5), 9)], 1)
    mask = torch.arange(12).expand(2, 12) < 7
    torch.testing.assert_close(model(padded, mask), model(x), rtol=1e-10, atol=1e-10)
