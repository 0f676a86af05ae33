import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from dashboards.architecture_words import in_words
from dashboards.drawing import BOX_WIDTH, CELLS, draw_architecture, sees
from dashboards.strip import draw_strip, mixer_letter
from dashboards.theme import MIXER_COLOURS
from space.reference_family import reference_family
from space.search_space import load_preset, preset_names

SVG = "{http://www.w3.org/2000/svg}"
NewArchitecture = Callable[..., dict[str, Any]]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_every_layer_is_drawn_with_its_sizes(new_architecture: NewArchitecture) -> None:
    svg = draw_architecture(
        new_architecture(
            {"mixer": {"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 2, "window": 32}},
            {"mixer": {"kind": "gated_conv", "width": 7, "gates": 2}, "number_format": "int8_dynamic"},
        )
    )
    words = texts(svg)
    assert "sliding window" in words
    assert "4 heads, 2 for keys and values, window 32" in words
    assert "width 7, gates 2" in words
    assert {"layer 1", "layer 2", "int8", "fp32"} <= set(words)


def test_the_bar_of_a_feed_forward_is_as_long_as_its_width(new_architecture: NewArchitecture) -> None:
    wide = {"feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 256}}
    narrow = {"feed_forward": {"kind": "mlp", "activation": "gelu", "d_ff": 64}}
    svg = draw_architecture(new_architecture(wide, narrow))
    bars = [float(width) for width in re.findall(r'width="([\d.]+)" height="48"[^>]*fill-opacity="0.3"', svg)]
    assert bars == [BOX_WIDTH, BOX_WIDTH / 4]


def test_equal_neighbours_are_drawn_once(new_architecture: NewArchitecture) -> None:
    words = texts(draw_architecture(new_architecture({}, {}, {})))
    assert "layers 1–3" in words
    assert words.count("softmax attention") == 1


def test_the_drawing_says_itself_in_words(new_architecture: NewArchitecture) -> None:
    root = ET.fromstring(draw_architecture(new_architecture({})))
    named = {element.get("id"): element.text for element in root if element.get("id")}
    title, description = (root.get("aria-labelledby") or "").split()
    assert "softmax" in (named[title] or "")
    assert "layer 1: softmax attention" in (named[description] or "")
    assert "url(" not in ET.tostring(root, encoding="unicode")


@pytest.mark.parametrize(
    ("placement", "residual"), list(itertools.product(("pre", "post"), ("serial", "parallel")))
)
def test_every_block_form_keeps_inside_the_picture(
    new_architecture: NewArchitecture, placement: str, residual: str
) -> None:
    root = ET.fromstring(draw_architecture(new_architecture({"placement": placement, "residual": residual})))
    height = float(root.get("height", "0"))
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("y", "0")) + float(box.get("height", "0")) <= height
    joins = len(list(root.iter(f"{SVG}circle")))
    assert joins == (2 if residual == "serial" else 1)


@pytest.mark.parametrize("name", preset_names())
def test_the_references_of_every_preset_can_be_drawn(name: str) -> None:
    from space.architecture import BytesInterface, ImageInterface

    space = load_preset(name)
    interface = (
        ImageInterface(height=8, width=8, patch_size=2, outputs=10)
        if space.model == "vision"
        else BytesInterface(context_length=64, outputs=256 if space.model == "decoder" else 4)
    )
    for reference in reference_family(space.for_interface(interface), 1):
        one = reference.architecture.model_dump(mode="json")
        assert ET.fromstring(draw_architecture(one)).tag == f"{SVG}svg"
        assert in_words(one)


def test_what_a_mixer_sees_follows_its_reach() -> None:
    full = sees({"kind": "softmax", "num_heads": 4}, 128, causal=True)
    assert all(full[i][j] == (1.0 if j <= i else 0.0) for i in range(CELLS) for j in range(CELLS))
    window = sees({"kind": "sliding_window", "window": 32}, 128, causal=True)
    assert window[7][7] == window[7][6] == 1.0
    assert window[7][3] == 0.0
    both = sees({"kind": "sliding_window", "window": 32}, 128, causal=False)
    assert both[3][4] == both[4][3] > 0.0


def test_a_strip_has_a_square_per_layer(new_architecture: NewArchitecture) -> None:
    root = ET.fromstring(draw_strip(new_architecture({}, {"mixer": {"kind": "pool", "width": 5}})))
    assert [element.text for element in root.iter(f"{SVG}text")] == ["S", "P"]


def test_kinds_and_fields_nobody_knows_are_drawn_by_their_names(new_architecture: NewArchitecture) -> None:
    one = new_architecture({}, {}, {})
    one["sharing"] = {"kind": "cyclic", "groups": 2}
    one["layers"][0] |= {
        "mixer": {"kind": "gated_delta", "num_heads": 2, "state": {"kind": "matrix", "width": 16}},
        "feed_forward": {"kind": "moe", "num_experts": 4, "expert": {"kind": "mlp", "d_ff": 64}},
        "residual": "macaron",
        "scale": 0.5,
    }
    one["layers"][1]["feed_forward"] = {"kind": "none"}
    one["layers"][2]["feed_forward"] = {"kind": "nested", "widths": [32, 64]}
    words = texts(draw_architecture(one))
    assert words.count("MOE") == 2
    assert "no feed-forward" not in words
    assert {"gated delta", "nested", "sharing: cyclic, groups 2"} <= set(words)
    assert "2 heads, state matrix, width 16" in words
    assert "RMSNorm · macaron · scale 0.5" in words
    assert "feed-forward, num experts 4, expert MLP 64" in words
    assert "layer 2: softmax attention (4 heads, 2 for keys and values), no feed-forward" in in_words(one)
    assert ET.fromstring(draw_strip(one)).tag == f"{SVG}svg"


def test_the_same_drawing_twice_on_a_page_has_ids_of_its_own(new_architecture: NewArchitecture) -> None:
    one = new_architecture({})
    ids = [re.findall(r'id="(\w+)"', draw_architecture(one, key=key)) for key in ("1", "2")]
    assert not set(ids[0]) & set(ids[1])


def test_a_layer_that_differs_is_marked_with_what_differs(new_architecture: NewArchitecture) -> None:
    svg = draw_architecture(new_architecture({}, {}, {}), {1: ("mixer", "norm")})
    assert "≠ mixer, norm" in texts(svg)
    assert {"layer 1", "layer 2", "layer 3"} <= set(texts(svg))
    assert svg.count('class="pf-changed"') == 1


def test_mixers_have_letters_and_colours_of_their_own() -> None:
    letters = {mixer_letter(kind) for kind in MIXER_COLOURS}
    assert len(letters) == len(set(MIXER_COLOURS.values())) == len(MIXER_COLOURS)


def test_hostile_names_stay_text(new_architecture: NewArchitecture) -> None:
    """A14: a choice name from outside cannot become markup."""
    one = new_architecture({})
    one["layers"][0]["mixer"] = {"kind": "<script>alert(1)</script>", "<b>": "<i>"}
    one["layers"][0]["number_format"] = '"><x>'
    for svg in (draw_architecture(one), draw_strip(one)):
        root = ET.fromstring(svg)
        assert not [
            element for element in root.iter() if element.tag in (f"{SVG}script", f"{SVG}x", f"{SVG}b")
        ]
