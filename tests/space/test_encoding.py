"""Rows of numbers for surrogates: what the columns mean, and that nothing is lost in the vector."""

import random

import numpy as np
import pytest

from space.architecture import BytesInterface, ImageInterface, InterfaceConfig
from space.encoding import STATISTICS, VectorEncoding, statistics
from space.gene import Value
from space.sampling import sample
from space.search_space import SearchSpace, load_preset


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_preset("decoder-small").for_interface(BytesInterface(context_length=64, outputs=256))


def test_vectors_lie_in_the_unit_cube_and_tell_architectures_apart(space: SearchSpace) -> None:
    rng = random.Random(0)
    found = {a.id: a for a in (sample(space, rng) for _ in range(60))}
    encoding = VectorEncoding(space)
    rows = encoding.rows(list(found.values()))
    assert rows.shape == (len(found), len(encoding.columns))
    assert ((rows >= 0) & (rows <= 1)).all()
    assert len(np.unique(rows, axis=0)) == len(found)


def test_an_ordered_gene_is_one_logarithmic_column_and_others_are_one_hot(space: SearchSpace) -> None:
    encoding = VectorEncoding(space.with_domains({"d_model": [32, 64, 128]}))
    where = {name: index for index, name in enumerate(encoding.columns)}
    for d_model, value in ((32, 0.0), (64, 0.5), (128, 1.0)):
        point = encoding.space.decode({"d_model": d_model, "num_layers": 2, "layer0.mixer": "pool"})
        (row,) = encoding.rows([point])
        assert row[where["d_model"]] == pytest.approx(value)
        assert row[where["layer0.mixer=pool"]] == 1
        assert row[where["layer0.mixer=softmax"]] == 0
        assert [row[where[f"layer{i}.active"]] for i in range(4)] == [1, 1, 0, 0]
        assert not any(row[where[f"layer3.mixer={kind}"]] for kind in space.domains.mixer)


@pytest.mark.parametrize(
    ("preset", "interface"),
    [
        ("decoder-full", BytesInterface(context_length=32, outputs=256)),
        ("encoder-full", BytesInterface(context_length=32, outputs=2)),
        ("vision-full", ImageInterface(height=8, width=8, patch_size=2, outputs=10)),
    ],
)
def test_a_gene_that_starts_at_zero_is_scaled_by_rank(preset: str, interface: InterfaceConfig) -> None:
    full = load_preset(preset).with_domains({"num_layers": [1, 2], "d_model": [64], "qkv_dconv": [0, 3, 5]})
    full = full.for_interface(interface)
    assert any(gene.ordinal and gene.options[0] == 0 for gene in full.genes())
    encoding, rng = VectorEncoding(full), random.Random(0)
    rows = encoding.rows([sample(full, rng) for _ in range(12)])
    assert ((rows >= 0) & (rows <= 1)).all()
    where = encoding.columns.index("layer0.qkv_dconv")
    for taps, scaled in ((0, 0.0), (3, 0.5), (5, 1.0)):
        one = full.decode({"num_layers": 1, "layer0.mixer": "softmax", "layer0.qkv_dconv": taps})
        assert encoding.rows([one])[0, where] == scaled


def test_statistics_have_the_same_columns_for_every_space(space: SearchSpace) -> None:
    image = ImageInterface(height=8, width=8, patch_size=2, outputs=10)
    vision = load_preset("vision-small").for_interface(image)
    rng = random.Random(1)
    rows = statistics([sample(space, rng) for _ in range(10)] + [sample(vision, rng) for _ in range(10)])
    assert rows.shape == (20, len(STATISTICS))
    assert np.isfinite(rows).all()
    assert statistics([]).shape == (0, len(STATISTICS))


def test_statistics_of_one_architecture_by_hand(space: SearchSpace) -> None:
    genes: dict[str, Value] = {
        "num_layers": 3,
        "d_model": 64,
        "layer0.mixer": "softmax",
        "layer1.mixer": "pool",
    }
    genes |= {"layer2.mixer": "pool", "layer0.ff_ratio": 1, "layer1.ff_ratio": 2, "layer2.ff_ratio": 3}
    genes |= {f"layer{i}.feed_forward": "mlp" for i in range(3)}
    point = space.decode(genes)
    (row,) = statistics([point])
    read = dict(zip(STATISTICS, row, strict=True))
    assert read["all.pool"] == pytest.approx(2 / 3)
    assert (read["first.softmax"], read["middle.pool"], read["last.softmax"]) == (1, 1, 0)
    assert (read["ff_ratio.mean"], read["ff_ratio.slope"]) == (pytest.approx(2), pytest.approx(2))
    assert read["bits.mean"] == 32
