"""Decoding repairs and is total; encoding inverts it on every member of a space."""

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space.architecture import (
    Architecture,
    BytesInterface,
    ImageInterface,
    InterfaceConfig,
    canonicalise,
    check_architecture,
    parse_architecture,
)
from space.errors import InvalidArchitectureError, InvalidInputError
from space.feedforward import GluConfig
from space.gene import Value
from space.layer_options import hidden_width, legal_head_counts
from space.mixers import MIXERS
from space.search_space import SearchSpace, load_preset

TEXT = BytesInterface(context_length=24, outputs=256)
SEQUENCE = BytesInterface(context_length=24, outputs=5)
IMAGE = ImageInterface(height=8, width=8, patch_size=2, outputs=10)


def _space(preset: str, interface: InterfaceConfig, **changes: Any) -> SearchSpace:
    return load_preset(preset).with_domains(changes).for_interface(interface)


ANY_POSITION = ["rope", "alibi", "none", "learned"]
SPACES = [
    _space("decoder-small", TEXT),
    _space("decoder-small", TEXT, position=ANY_POSITION, d_model=[24, 40, 64], head_width=[8, 32], shared=[]),
    _space("decoder-small", TEXT, position=["alibi"], head_width=[16, 32], tied=[True, False]),
    _space("decoder-small", TEXT, shared=["mixer", "window", "ff_ratio"], ff_ratio=[0.5, 1.5, 8 / 3]),
    _space("encoder-small", SEQUENCE, position=ANY_POSITION),
    _space("encoder-small", SEQUENCE, position=["alibi"], mixer=["linear_elu", "softmax"]),
    _space("encoder-small", SEQUENCE, position=["none"], shared=["mixer"]),
    _space("vision-small", IMAGE),
]


def _draw(space: SearchSpace, seed: int) -> dict[str, Value]:
    rng = random.Random(seed)
    return {gene.name: rng.choice(gene.options) for gene in space.genes()}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(range(len(SPACES))), st.integers(0, 10**9))
def test_any_genotype_decodes_to_a_canonical_member_that_encodes_back(index: int, seed: int) -> None:
    space = SPACES[index]
    architecture = space.decode(_draw(space, seed))
    check_architecture(architecture)
    assert canonicalise(architecture).id == architecture.id
    assert parse_architecture(architecture.canonical_json).id == architecture.id
    genotype = space.encode(architecture)
    assert set(genotype) == {gene.name for gene in space.genes()}
    assert space.decode(genotype).id == architecture.id
    assert space.project(architecture) == genotype


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([0, 1, 2, 3, 4, 7]), st.integers(0, 10**9))  # no mixer repair there
def test_idle_genes_change_nothing(index: int, seed: int) -> None:
    space = SPACES[index]
    genotype = _draw(space, seed)
    active = {gene.name for gene in space.active_genes(genotype)}
    other = {name: value for name, value in _draw(space, seed + 1).items() if name not in active}
    assert space.decode({**genotype, **other}).id == space.decode(genotype).id


def test_layers_follow_their_genes() -> None:
    architecture = SPACES[0].decode(
        {
            "num_layers": 3, "d_model": 64, "head_width": 16, "kv_heads": "half", "norm": "layernorm",
            "layer0.mixer": "softmax", "layer0.feed_forward": "mlp", "layer0.ff_ratio": 3.0,
            "layer1.mixer": "sliding_window", "layer1.window": 8,
            "layer2.mixer": "gated_conv", "layer2.conv_width": 7, "layer2.gates": 2,
        }
    )  # fmt: skip
    first, second, third = (layer.mixer for layer in architecture.layers)
    assert first.model_dump() == {"kind": "softmax", "num_heads": 4, "num_kv_heads": 2}
    assert second.model_dump() == {"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 2, "window": 8}
    assert third.model_dump() == {"kind": "gated_conv", "width": 7, "gates": 2}
    assert architecture.layers[0].feed_forward.model_dump()["d_ff"] == 192
    assert architecture.final_norm.kind == "layernorm"


def test_a_window_over_the_whole_context_becomes_softmax() -> None:
    one: dict[str, Value] = {"num_layers": 1, "layer0.mixer": "sliding_window", "layer0.window": 32}
    assert SPACES[0].decode(one).layers[0].mixer.kind == "softmax"


def test_alibi_gets_its_four_heads() -> None:
    space = SPACES[2]
    architecture = space.decode({"num_layers": 1, "d_model": 32, "head_width": 32, "layer0.mixer": "softmax"})
    assert architecture.position.kind == "alibi"
    assert architecture.layers[0].mixer.model_dump()["num_heads"] == 4


def test_a_position_that_nothing_reads_is_replaced_by_one_that_acts() -> None:
    blind: dict[str, Value] = {"num_layers": 1, "position": "alibi", "layer0.mixer": "linear_elu"}
    assert SPACES[0].decode(blind).position.kind == "rope"
    assert SPACES[0].decode({**blind, "layer0.mixer": "gated_conv"}).position.kind == "none"
    assert SPACES[1].decode({**blind, "position": "none"}).position.kind == "none"
    assert SPACES[2].decode(blind).position.kind == "none"  # nothing in this space acts


def test_an_order_blind_encoder_is_repaired_by_position_then_by_mixer() -> None:
    blind: dict[str, Value] = {
        "num_layers": 2,
        "position": "none",
        "layer0.mixer": "softmax",
        "layer1.mixer": "softmax",
    }
    assert SPACES[4].decode(blind).position.kind == "rope"
    linear: dict[str, Value] = {"num_layers": 2, "layer0.mixer": "linear_elu", "layer1.mixer": "linear_elu"}
    repaired = SPACES[5].decode(linear)
    assert [layer.mixer.kind for layer in repaired.layers] == ["softmax", "linear_elu"]
    assert repaired.position.kind == "alibi"
    shared = SPACES[6].decode({"num_layers": 2, "mixer": "softmax"})
    assert {layer.mixer.kind for layer in shared.layers} == {"gated_conv"}


def test_deeper_layers_repeat_the_encoded_ones() -> None:
    space = SPACES[0]
    two = space.decode({"num_layers": 2, "layer0.mixer": "pool", "layer1.mixer": "softmax"})
    deeper = space.decode({**space.encode(two), "num_layers": 4})
    assert [layer.mixer.kind for layer in deeper.layers] == ["pool", "softmax", "pool", "softmax"]


@pytest.mark.parametrize(
    ("genotype", "message"),
    [
        ({"num_layer": 2}, "unknown gene 'num_layer'; did you mean 'num_layers'"),
        ({"layer0.mixer": "sofmax"}, "gene 'layer0.mixer': unknown value 'sofmax'; did you mean 'softmax'"),
        ({"d_model": 60}, "gene 'd_model': unknown value '60'"),
    ],
)
def test_wrong_genotypes_are_refused(genotype: dict[str, Value], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        SPACES[0].decode(genotype)


def _outsider(**changes: Any) -> Architecture:
    data = SPACES[0].decode({"num_layers": 2, "layer0.mixer": "softmax"}).model_dump(mode="json")
    return parse_architecture({**data, **changes})


def test_architectures_outside_the_space_are_told_apart_and_projected() -> None:
    space = SPACES[0]
    inside = _outsider()
    layer = inside.model_dump(mode="json")["layers"][0]
    odd = {**layer, "feed_forward": {**layer["feed_forward"], "d_ff": 100}}
    outsiders = [
        _outsider(d_model=256),
        _outsider(layers=[layer] * 6),
        _outsider(layers=[odd, odd]),
        _outsider(position={"kind": "learned"}),
        _outsider(head={"kind": "language", "tied": True}),
        _outsider(interface={"input": "bytes", "context_length": 16, "outputs": 256}),
        _outsider(final_norm={"kind": "layernorm"}),
        SPACES[4].decode({}),
    ]
    assert space.contains(inside)
    for outsider in outsiders:
        assert not space.contains(outsider)
        with pytest.raises(InvalidArchitectureError, match=f"{outsider.id} lie"):
            space.encode(outsider)
        assert space.contains(space.decode(space.project(outsider)))
    assert space.decode(space.project(outsiders[0])).d_model == 128
    assert len(space.decode(space.project(outsiders[1])).layers) == 4


def test_feed_forwards_of_one_ratio_have_about_equal_parameters() -> None:
    for d_model in (32, 64, 96, 128):
        plain = 2 * hidden_width(Fraction(1), 4.0, d_model)
        gated = 3 * hidden_width(GluConfig.width_factor, 4.0, d_model)
        assert abs(plain - gated) <= 3 * 4  # half of the rounding step of 8, three matrices


@pytest.mark.parametrize("d_model", range(8, 264, 8))
def test_every_width_has_legal_heads(d_model: int) -> None:
    for least in (1, 4):
        for heads in legal_head_counts(d_model, least_heads=least):
            assert heads >= least
            assert d_model % heads == 0
            assert d_model // heads % 2 == 0


def test_every_mixer_says_which_genes_decide_its_fields() -> None:
    for config in MIXERS.values():
        assert set(config.genes) <= set(config.model_fields) - {"kind"}
        free = set(config.model_fields) - {"kind"} - set(config.genes)
        assert all(not config.model_fields[field].is_required() for field in free)
