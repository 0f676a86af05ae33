import re
from dataclasses import asdict
from typing import get_args

from dashboards.assets import static_text
from dashboards.theme import (
    DARK,
    FORMAT_COLOURS,
    LIGHT,
    REFERENCE_SYMBOLS,
    SEARCH_SYMBOLS,
    dark_colours,
    figure_layout,
    symbol,
)
from dashboards.wording import FORMAT_WORDS
from space.quantization import NumberFormat


def test_the_style_sheet_has_the_colours_of_the_palettes() -> None:
    blocks = re.findall(r":root \{(.*?)\n *\}", static_text("app.css"), flags=re.S)
    for palette, block in zip((LIGHT, DARK), blocks, strict=True):
        declared = dict(re.findall(r"--(\w+): (#\w+);", block))
        assert {role: declared[role] for role in asdict(palette)} == asdict(palette)


def test_every_light_colour_has_one_dark_partner() -> None:
    assert len(set(asdict(LIGHT).values())) == len(asdict(LIGHT)) == len(dark_colours())
    assert dark_colours()[LIGHT.accent] == DARK.accent


def test_text_and_marks_stand_out_from_both_backgrounds() -> None:
    """WCAG 2.2: 4.5 for text, 3 for graphics; clouds are context and need less."""
    for palette in (LIGHT, DARK):
        assert min(contrast(palette.ink, palette.surface), contrast(palette.muted, palette.surface)) >= 4.5
        for colour in (palette.accent, palette.reference, palette.highlight, palette.good, palette.bad):
            assert contrast(colour, palette.surface) >= 4.5


def test_no_two_marks_share_a_shape() -> None:
    assert set(SEARCH_SYMBOLS) == {*get_args(NumberFormat), "mixed"}
    assert set(FORMAT_COLOURS) == set(FORMAT_WORDS) == set(get_args(NumberFormat))
    shapes = [*SEARCH_SYMBOLS.values(), *REFERENCE_SYMBOLS.values()]
    assert len(set(shapes)) == len(shapes)
    assert symbol(SEARCH_SYMBOLS, "fp32", hollow=True) == "circle-open"


def test_a_layout_does_not_change_the_axis_of_another() -> None:
    first = figure_layout(x={"title": {"text": "a"}}, y={})
    second = figure_layout(x={"title": {"text": "b"}}, y={})
    assert (first["xaxis"]["title"]["text"], second["xaxis"]["title"]["text"]) == ("a", "b")


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
