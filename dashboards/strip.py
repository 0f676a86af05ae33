"""An architecture as a small picture for tables: per layer the mixer's letter, the feed-forward's width."""

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import escape

from .architecture_words import layer_words
from .theme import FORMAT_COLOURS, OTHER_COLOUR, mixer_colour
from .wording import MIXER_WORDS

MAX_LAYERS = 16
LETTERS: Mapping[str, str] = {
    "softmax": "S",
    "sliding_window": "W",
    "linear_elu": "L",
    "gated_conv": "C",
    "pool": "P",
}
"""Of mixers with a letter of their own; any other has two."""


def draw_strip(architecture: Mapping[str, Any]) -> str:
    """A small SVG: per layer the mixer's letter on its colour, below it a bar as long as d_ff."""
    layers = architecture["layers"][:MAX_LAYERS]
    longest = max(1, *(d_ff(layer) for layer in layers))
    parts = []
    for index, layer in enumerate(layers):
        kind, x = str(layer["mixer"]["kind"]), 19 * index
        number_format = str(layer.get("number_format", "fp32"))
        bar = 4 + 13 * d_ff(layer) / longest
        parts.append(
            f'<rect x="{x}" width="17" height="17" rx="4" fill="{mixer_colour(kind)}" fill-opacity=".22"/>'
            f'<text x="{x + 8.5}" y="12.6" text-anchor="middle">{escape(mixer_letter(kind))}</text>'
            f'<rect x="{x}" y="20" width="{bar:.1f}" height="4" rx="2" '
            f'fill="{FORMAT_COLOURS.get(number_format, OTHER_COLOUR)}"/>'
        )
    width = 19 * len(layers) - 2
    words = escape("; ".join(layer_words(layer) for layer in layers))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 {width} 24" width="{width}" '
        f'height="24" role="img"><title>{words}</title>{"".join(parts)}</svg>'
    )


def mixer_letter(kind: str) -> str:
    """
    >>> mixer_letter("softmax"), mixer_letter("gated_delta"), mixer_letter("mamba")
    ('S', 'Gd', 'Ma')
    """
    if kind in LETTERS:
        return LETTERS[kind]
    first, _, second = kind.partition("_")
    return (first[:1].upper() + (second[:1] or first[1:2]).lower()) or "?"


def strip_key(architectures: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(letter, words, colour) of every mixer of these architectures, in the order of the first letters."""
    kinds = {str(layer["mixer"]["kind"]) for one in architectures for layer in one["layers"]}
    ordered = sorted(kinds, key=lambda kind: (list(LETTERS).index(kind) if kind in LETTERS else 99, kind))
    return [
        (mixer_letter(kind), MIXER_WORDS.get(kind, kind.replace("_", " ")), mixer_colour(kind))
        for kind in ordered
    ]


def d_ff(layer: Mapping[str, Any]) -> int:
    """Width of a layer's feed-forward; 0 where it has none or none of one number."""
    width = (layer.get("feed_forward") or {}).get("d_ff", 0)
    return int(width) if isinstance(width, (int, float)) else 0
