"""Rows of numbers for surrogates: what the columns mean, and that nothing is lost in the vector."""

import random

import numpy as np
import pytest

from space.architecture import BytesInterface, ImageInterface
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
