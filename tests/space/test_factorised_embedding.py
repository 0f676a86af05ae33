"""A table of token ids as two factors: values, counts, decoding, files, and its gene."""

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from evaluators.devices.operators import operators_of
from evaluators.latency import Target, blocks_of
from evaluators.latency.blocks import export_block
from evaluators.proxies.params_decoder import ParamsDecoder
from space.architecture import Architecture, BytesInterface, ImageInterface, parse_architecture
from space.batch_costs import CostTable
from space.constraints import STATIC_KEYS, smallest, static_costs
from space.costs import costs
from space.deploy import deployed
from space.embedding import FactorisedEmbedding, TiedHead, factorised_reference
from space.encoding import VectorEncoding, statistics
from space.errors import InvalidArchitectureError, InvalidInputError
from space.export import export_onnx
from space.model import Model, build_model, parameter_roles
from space.norm_conversion import ExportNorm
from space.quantization import NumberFormat
from space.sampling import enumerate_space, sample
from space.search_space import SearchSpace, load_preset

V, D, E, TOKENS = 40, 24, 8, 12
HEADS = ({"kind": "language"}, {"kind": "language", "tied": True})
STORED = Path(__file__).parents[1] / "data" / "schema" / "0001.db"


def architecture(width: int = E, **changes: Any) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 1},
        "feed_forward": {"kind": "mlp", "d_ff": 16},
        "norm": {"kind": "layernorm"},
    }
    point = {
        "model": "decoder",
        "interface": {"input": "bytes", "vocab_size": V, "context_length": TOKENS, "outputs": V},
        "d_model": D,
        "embedding_width": width,
        "position": {"kind": "rope"},
        "layers": [layer, {**layer, "mixer": {"kind": "gated_conv", "width": 3}}],
        "final_norm": {"kind": "layernorm"},
        "head": {"kind": "language"},
    }
    return parse_architecture({**point, **changes})


def lively(point: Architecture) -> Model:
    """In float64, with weights large enough for differences to show."""
    model = build_model(point, seed=0).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def tokens(length: int = TOKENS, batch: int = 2) -> Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(2))


def test_values_and_gradients_are_those_of_the_table_multiplied_out() -> None:
    module = FactorisedEmbedding(V, E, D).double()
    head, ids, x = TiedHead(module), tokens(), torch.randn(2, 5, D, dtype=torch.float64)
    table = factorised_reference(module.weight, module.projection.weight)
    pairs = [
        (module(ids), functional.embedding(ids, table)),
        (head(x), x @ table.T),
    ]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        gradients = [
            torch.autograd.grad((y**2).sum(), list(module.parameters()), retain_graph=True)
            for y in (found, expected)
        ]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_product_of_the_factors_starts_at_the_spread_of_a_table() -> None:
    torch.manual_seed(0)
    module = FactorisedEmbedding(1000, 64, 128)
    spread = factorised_reference(module.weight, module.projection.weight).std().item()
    # each factor is cut at two deviations, which leaves 0.88 of its spread
    assert spread == pytest.approx(0.88**2 * 0.02, rel=0.05)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("width", [0, 1, E, D - 1])
def test_parameters_and_macs_are_the_counted_ones(width: int, head: dict[str, Any]) -> None:
    point = architecture(width, head=head)
    model, counted = build_model(point), costs(point)
    assert counted.params == sum(parameter.numel() for parameter in model.parameters())
    assert set(parameter_roles(model)) == {name for name, _ in model.named_parameters()}
    with FlopCounterMode(display=False) as counter:  # with a mask attention is plain matrix products
        model(tokens(batch=1), torch.ones(1, TOKENS, dtype=torch.bool))
    assert counter.get_total_flops() == 2 * counted.macs
    whole = costs(architecture(0, head=head))
    if width:
        tied = head.get("tied", False)
        assert counted.params - whole.params == width * (V + D) - V * D
        assert counted.macs_decode - whole.macs_decode == width * D + tied * (width * (D + V) - D * V)
        assert counted.weights_bytes - whole.weights_bytes == 4 * (counted.params - whole.params)


def test_many_at_once_cost_what_each_does() -> None:
    points = [architecture(width, head=head) for width in (0, 4, E) for head in HEADS]
    table = CostTable(batch_size=3).costs(points)
    for index, point in enumerate(points):
        alone = costs(point, batch_size=3)
        assert {name: column[index] for name, column in table.items()} == {
            name: getattr(alone, name) for name in table
        }


def test_other_counts_follow_the_factors() -> None:
    tied = architecture(head=HEADS[1])
    whole = architecture(0, head=HEADS[1])
    assert ParamsDecoder().value(tied) == ParamsDecoder().value(whole)
    found, before = ([op for op in operators_of(one) if op.outputs] for one in (tied, whole))
    work = [sum(op.flops for op in some) for some in (found, before)]
    assert work[0] - work[1] == 2 * (costs(tied).macs - costs(whole).macs)


def test_without_factors_nothing_is_written_and_stored_ids_stay() -> None:
    point = architecture(0)
    assert "embedding_width" not in point.canonical_json
    assert '"embedding_width":8' in architecture(E).canonical_json
    assert architecture(D).id == architecture(D + 8).id == point.id
    rows = sqlite3.connect(STORED).execute("select id, canonical_json from architectures").fetchall()
    assert rows
    for id_, text in rows:
        assert parse_architecture(text).id == id_


def test_it_survives_json_and_is_refused_without_a_table() -> None:
    point = architecture()
    assert parse_architecture(json.loads(point.canonical_json)).id == point.id != architecture(0).id
    values = {"input": "values", "channels": 2, "context_length": TOKENS, "outputs": 3}
    with pytest.raises(InvalidArchitectureError, match="embedding_width=8 factorises a table of token ids"):
        architecture(model="encoder", interface=values, head={"kind": "classification"})


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_token_by_token_equals_the_whole(head: dict[str, Any]) -> None:
    model, ids = lively(architecture(head=head)), tokens()
    whole, states = model(ids), model.init_state(2, dtype=torch.float64)
    for t in range(TOKENS):
        logits, states = model.step(ids[:, t], states, torch.tensor(t))
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("export_norm", ["keep", "rms", "crms"])
@torch.no_grad()
def test_converted_norms_leave_the_function(head: dict[str, Any], export_norm: ExportNorm) -> None:
    point = architecture(head=head)
    model = lively(point)
    form = deployed(model, point, export_norm=export_norm)
    torch.testing.assert_close(form(tokens()), model(tokens()), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_file_gives_the_same_at_every_length_and_its_ends_stay_float(
    head: dict[str, Any], tmp_path: Path
) -> None:
    point = architecture(head=head)
    model = lively(point).float()
    forms: list[tuple[NumberFormat, float]] = [("fp32", 1e-5), ("int8_dynamic", 0.1)]
    for form, limit in forms if head.get("tied") else forms[:1]:
        stored = point.with_number_format(form)
        path = export_onnx(model, stored, tmp_path / f"{form}.onnx")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for length in (1, 7, TOKENS):
            expected = model(tokens(length)).detach().numpy()
            found = session.run(None, {"tokens": tokens(length).numpy()})[0]
            assert np.linalg.norm(found - expected) < limit * np.linalg.norm(expected)
        assert costs(point).weights_bytes - costs(stored).weights_bytes == (
            costs(architecture(0, head=head)).weights_bytes
            - costs(architecture(0, head=head).with_number_format(form)).weights_bytes
        )


def test_blocks_of_latency_tell_factors_apart(tmp_path: Path) -> None:
    points = {
        (width, tied): architecture(width, head={"kind": "language", "tied": tied})
        for width in (0, E) for tied in (False, True)
    }  # fmt: skip
    blocks = {key: blocks_of(point, Target()) for key, point in points.items()}
    embeddings = {key: found[0].id for key, found in blocks.items()}
    heads = {key: found[-1].id for key, found in blocks.items()}
    assert embeddings[0, True] == embeddings[0, False] != embeddings[E, True] == embeddings[E, False]
    assert heads[0, True] == heads[0, False] == heads[E, False] != heads[E, True]
    for part in (0, -1):
        path = export_block(blocks[E, True][part], tmp_path / "block.onnx")
        assert onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()
    names = {name for name, _ in blocks[E, True][-1].build().named_parameters()}
    assert not names & {"1.projection.weight"}


# -- the gene --------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "num_layers": 1, "mixer": "gated_conv", "conv_width": 3, "gates": 1, "feed_forward": "mlp", "ff_ratio": 1,
    "activation": "relu", "norm": "rmsnorm", "number_format": "fp32", "residual": "serial", "head_width": 16,
    "d_model": [16, 32, 64], "embedding_width": [0, 16, 48, 64],
}  # fmt: skip


def space_of(preset: str, **changes: Any) -> SearchSpace:
    outputs = 256 if preset.startswith("decoder") else 3
    interface = BytesInterface(context_length=16, outputs=outputs)
    return load_preset(preset).with_domains({**SMALL, **changes}).for_interface(interface)


def test_the_space_is_counted_listed_and_encoded() -> None:
    for space, size in (
        (space_of("decoder-small", tied=[False, True], position="none"), 2 * (1 + 2 + 3)),
        (space_of("encoder-small", pooling=["mean", "last"], position="none"), 2 * (1 + 2 + 3)),
        (space_of("encoder-small", embedding_width=[48], position="none"), 3),
    ):
        everything = enumerate_space(space, 100)
        assert space.size() == len(everything) == size
        for one in everything:
            assert space.decode(space.encode(one)).id == one.id
    with pytest.raises(InvalidArchitectureError, match="embedding_width=0"):
        space.encode(architecture(0, d_model=64).model_copy(update={"interface": space.interface}))


def test_the_floor_is_the_least_of_the_space() -> None:
    space = space_of("decoder-small", tied=[False, True], position=["none", "learned"])
    everything = enumerate_space(space, 100)
    assert len(everything) == space.size()
    for d_model in (32, 64):
        narrowed = space.with_domains({"d_model": d_model})
        members = [one for one in everything if one.d_model == d_model]
        for key in STATIC_KEYS:
            least = min(static_costs(one, 2)[key] for one in members)
            assert smallest(narrowed, key, 2) == least, (key, d_model)


def test_draws_are_rare_and_every_draw_is_a_member() -> None:
    space = space_of("decoder-small", d_model=[64])
    rng = random.Random(0)
    drawn = [sample(space, rng) for _ in range(100)]
    assert 0 < sum(one.embedding_width > 0 for one in drawn) < 30
    assert all(space.contains(one) for one in drawn)
    encoding = VectorEncoding(space)
    distinct = {one.id: one for one in drawn}.values()
    assert len(np.unique(encoding.rows(list(distinct)), axis=0)) == len(distinct)
    assert np.isfinite(statistics(drawn)).all()


def test_a_space_that_names_no_width_has_no_such_gene() -> None:
    text = BytesInterface(context_length=16, outputs=256)
    small = load_preset("decoder-small").for_interface(text)
    assert "embedding_width" not in small.options
    assert small.decode({}).embedding_width == 0
    assert small.with_domains({"embedding_width": [64]}).decode({"d_model": 128}).embedding_width == 64
    for preset in ("decoder-full", "encoder-full"):
        assert "embedding_width" in load_preset(preset).options
    image = ImageInterface(height=8, width=8, patch_size=2, outputs=10)
    with pytest.raises(InvalidInputError, match="'embedding_width' belongs to 'decoder or encoder'"):
        load_preset("vision-small").with_domains({"embedding_width": 32}).for_interface(image)
