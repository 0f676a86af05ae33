import doctest
from collections.abc import Callable
from typing import Any

from dashboards import differences
from dashboards.differences import MISSING, aligned, changed_parts, changes, matched, sections

NewArchitecture = Callable[..., dict[str, Any]]
POOL = {"mixer": {"kind": "pool", "width": 5}}
CONV = {"mixer": {"kind": "gated_conv", "width": 7, "gates": 2}}


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(differences).failed == 0


def test_equal_architectures_differ_in_nothing(new_architecture: NewArchitecture) -> None:
    one = new_architecture({}, POOL)
    assert not any(section.is_different for section in sections([one, one]))
    assert changes(one, one) == []
    assert changed_parts([one, one], 1) == {}


def test_an_inserted_layer_leaves_the_others_equal(new_architecture: NewArchitecture) -> None:
    short, long = new_architecture({}, CONV), new_architecture({}, POOL, CONV)
    assert aligned(short["layers"], long["layers"]) == [(0, 0), (None, 1), (1, 2)]
    assert matched([short, long, short]) == [(0, 0, 0), (None, 1, None), (1, 2, 1)]
    assert changes(short, long) == ["layer 2 added"]
    assert changes(long, short) == ["layer 2 removed"]
    assert changed_parts([short, long], 1) == {1: ("only here",)}
    (extra,) = [section for section in sections([short, long]) if section.is_different]
    assert extra.places == (MISSING, "layer 2")
    assert dict(zip((row.name for row in extra.different), extra.different, strict=True))["mixer"].values == (
        MISSING,
        "pooling, width 5",
    )


def test_layers_that_nobody_else_has_share_no_row_with_others(new_architecture: NewArchitecture) -> None:
    """Insertions of two architectures at one place stand in one row, beside the first one's none."""
    first, one, other = new_architecture({}), new_architecture({}, POOL), new_architecture({}, CONV, CONV)
    assert matched([first, one, other]) == [(0, 0, 0), (None, 1, 1), (None, None, 2)]


def test_what_changed_is_said_to_the_gene(new_architecture: NewArchitecture) -> None:
    wide = {"feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 256}}
    found = changes(new_architecture({}, d_model=64), new_architecture(wide, d_model=96))
    assert found == ["width 64 → 96", "layer 1: feed-forward width 168 → 256"]


def test_a_part_is_marked_on_both_sides(new_architecture: NewArchitecture) -> None:
    pair = [new_architecture({}, {}), new_architecture({}, {**POOL, "number_format": "int8_dynamic"})]
    expected = {1: ("mixer", "number format")}
    assert changed_parts(pair, 0) == changed_parts(pair, 1) == expected


def test_kinds_and_fields_nobody_knows_are_compared_too(new_architecture: NewArchitecture) -> None:
    one, other = new_architecture({}), new_architecture({})
    other["sharing"] = {"kind": "cyclic", "groups": 2}
    other["layers"][0]["feed_forward"] = {"kind": "none"}
    assert changes(one, other) == [
        "sharing none → cyclic",
        "sharing groups – → 2",
        "layer 1: feed-forward glu → none",
        "layer 1: feed-forward activation silu → –",
        "layer 1: feed-forward width 168 → –",
    ]
    names = [row.name for section in sections([one, other]) for row in section.rows if row.is_different]
    assert names == ["sharing", "feed-forward"]
