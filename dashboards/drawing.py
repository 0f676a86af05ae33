"""An architecture as a picture: block by block from input to output, as standalone SVG.

    embedding
        |---- norm -- mixer ---- (+)
        |                         |---- norm -- feed-forward ---- (+)
       ...
    final norm, head

The residual stream is the line at the left. A mixer's small square shows which position (row) sees which
(column); a feed-forward's bar is as long as its d_ff, on one scale for the whole drawing. Equal neighbours
are drawn once. Everything stands in the file: no font, image or script from elsewhere; `title` and `desc` say
it in words.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import escape

from .theme import DARK, FONT, FORMAT_COLOURS, LIGHT, MIXER_COLOURS, OTHER_COLOUR
from .wording import MIXER_WORDS, NORM_WORDS, POSITION_WORDS, describe, feed_forward, format_word

WIDTH = 440
STREAM_X = 26
BOX_X = 84
BOX_WIDTH = 330
CELLS = 8
MIXER_LETTERS: Mapping[str, str] = {"sliding_window": "W", "gated_conv": "C"}
"""Of strips, where the first letter is taken or says little."""

_STYLE = f"""
.pf-draw text {{ font: 13px {FONT}; fill: {LIGHT.ink}; }}
.pf-draw .pf-small {{ font-size: 11px; fill: {LIGHT.muted}; }}
.pf-draw .pf-strong {{ font-weight: 600; }}
.pf-draw .pf-stream {{ stroke: {LIGHT.muted}; fill: none; stroke-width: 2; }}
.pf-draw .pf-wire {{ stroke: {LIGHT.muted}; fill: none; stroke-width: 1.4; }}
.pf-draw .pf-join {{ stroke: {LIGHT.muted}; fill: {LIGHT.surface}; stroke-width: 1.6; }}
.pf-draw .pf-frame {{ fill: {LIGHT.page}; stroke: {LIGHT.line}; }}
.pf-draw .pf-plain {{ fill: {LIGHT.surface}; stroke: {LIGHT.line}; }}
@media (prefers-color-scheme: dark) {{
.pf-draw text {{ fill: {DARK.ink}; }}
.pf-draw .pf-small {{ fill: {DARK.muted}; }}
.pf-draw .pf-stream, .pf-draw .pf-wire {{ stroke: {DARK.muted}; }}
.pf-draw .pf-join {{ stroke: {DARK.muted}; fill: {DARK.surface}; }}
.pf-draw .pf-frame {{ fill: {DARK.page}; stroke: {DARK.line}; }}
.pf-draw .pf-plain {{ fill: {DARK.surface}; stroke: {DARK.line}; }}
}}
"""


@dataclass
class _Canvas:
    """Pieces of SVG and the height used so far."""

    y: float = 12
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, css: str, radius: float = 7) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" class="{css}"/>'
        )

    def tint(self, x: float, y: float, width: float, height: float, colour: str, opacity: float) -> None:
        radius = min(5.0, width / 3, height / 3)
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
            f'fill="{colour}" fill-opacity="{opacity:g}"/>'
        )

    def wire(self, path: str) -> None:
        self.parts.append(f'<path d="{path}" class="pf-wire"/>')

    def join(self, y: float) -> None:
        """Where a branch is added to the residual stream."""
        self.parts.append(
            f'<circle cx="{STREAM_X}" cy="{y:g}" r="8" class="pf-join"/>'
            f'<path d="M{STREAM_X - 4} {y:g}h8M{STREAM_X} {y - 4:g}v8" class="pf-wire"/>'
        )


def draw_architecture(architecture: Mapping[str, Any]) -> str:
    """Standalone SVG text of an architecture (its JSON form), block by block."""
    canvas = _Canvas()
    _pill(canvas, *_input_words(architecture))
    groups = [list(group) for _, group in itertools.groupby(architecture["layers"], key=_canonical)]
    longest = max(_d_ff(layer) for layer in architecture["layers"])
    first = 1
    for group in groups:
        _block(canvas, architecture, group[0], first, len(group), longest)
        first += len(group)
    norm = str(architecture["final_norm"]["kind"])
    head = architecture["head"]
    tied = ", weight tied to the embedding" if head.get("tied") else ""
    outputs = architecture["interface"]["outputs"]
    _pill(
        canvas,
        f"{NORM_WORDS.get(norm, norm)}, {head['kind']} head",
        f"{architecture['d_model']} → {outputs} outputs{tied}",
    )
    height = canvas.y
    mark = hashlib.sha256(_canonical(architecture).encode()).hexdigest()[:10]
    stream = f'<path d="M{STREAM_X} 46V{height - 46:g}" class="pf-stream"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pf-draw" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" role="img" aria-labelledby="t{mark} d{mark}">'
        f'<title id="t{mark}">{escape(describe(architecture))}</title>'
        f'<desc id="d{mark}">{escape(in_words(architecture))}</desc>'
        f"<style>{_STYLE}</style>{_under(stream, canvas.parts)}</svg>"
    )


def draw_strip(architecture: Mapping[str, Any]) -> str:
    """A small SVG for tables: per layer the mixer's letter on its colour, below it a bar as long as d_ff."""
    layers = architecture["layers"][:16]
    longest = max(_d_ff(layer) for layer in layers)
    parts = []
    for index, layer in enumerate(layers):
        kind, x = str(layer["mixer"]["kind"]), 19 * index
        number_format = str(layer.get("number_format", "fp32"))
        bar = 4 + 13 * _d_ff(layer) / longest
        parts.append(
            f'<rect x="{x}" width="17" height="17" rx="4" fill="{_mixer_colour(kind)}" fill-opacity=".22"/>'
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
    return MIXER_LETTERS.get(kind, kind[:1].upper())


def in_words(architecture: Mapping[str, Any]) -> str:
    """Every layer in words: the text twin of the drawing."""
    position = str(architecture["position"]["kind"])
    layers = [
        f"layer {index}: {layer_words(layer)}" for index, layer in enumerate(architecture["layers"], start=1)
    ]
    return f"{architecture['model']}, {POSITION_WORDS.get(position, position)}; " + "; ".join(layers)


def layer_words(layer: Mapping[str, Any]) -> str:
    """One layer: mixer with its sizes, feed-forward, norm, number format."""
    norm = str(layer["norm"]["kind"])
    mixer = str(layer["mixer"]["kind"])
    sizes = mixer_sizes(layer["mixer"])
    return (
        f"{MIXER_WORDS.get(mixer, mixer)}{f' ({sizes})' if sizes else ''}, "
        f"{feed_forward(layer['feed_forward'])}, "
        f"{layer.get('placement', 'pre')}-{NORM_WORDS.get(norm, norm)}, "
        f"{layer.get('residual', 'serial')}, {format_word(str(layer.get('number_format', 'fp32')))}"
    )


def mixer_sizes(mixer: Mapping[str, Any]) -> str:
    """
    >>> mixer_sizes({"kind": "sliding_window", "num_heads": 4, "num_kv_heads": 2, "window": 32})
    '4 heads, 2 for keys and values, window 32'
    """
    words = []
    heads = mixer.get("num_heads")
    if heads is not None:
        words.append(f"{heads} head{'s' if heads != 1 else ''}")
    if mixer.get("num_kv_heads", heads) != heads:
        words.append(f"{mixer['num_kv_heads']} for keys and values")
    shown = ("kind", "num_heads", "num_kv_heads")
    words += [f"{name.replace('_', ' ')} {value}" for name, value in mixer.items() if name not in shown]
    return ", ".join(words)


def sees(mixer: Mapping[str, Any], tokens: int, *, causal: bool) -> list[list[float]]:
    """CELLS x CELLS shades: how much row i's positions may see of column j's; 1 fully, 0 not at all.

    The reach of a mixer is scaled from `tokens` positions to CELLS, at least its own cell and the next one.
    """
    reach = CELLS * _reach(mixer, tokens, causal=causal) / tokens
    return [
        [
            0.0 if causal and j > i else max(0.0, min(1.0, max(reach, 1.5) - abs(i - j) + 0.5))
            for j in range(CELLS)
        ]
        for i in range(CELLS)
    ]


def _reach(mixer: Mapping[str, Any], tokens: int, *, causal: bool) -> float:
    extent = mixer.get("window", mixer.get("width"))
    if extent is None:
        return 2 * tokens
    return float(extent) if causal else float(extent) / 2


def _input_words(architecture: Mapping[str, Any]) -> tuple[str, str]:
    interface = architecture["interface"]
    position = str(architecture["position"]["kind"])
    positions = POSITION_WORDS.get(position, position)
    if interface["input"] == "image":
        source = f"{interface['height']}×{interface['width']} image in {interface['patch_size']}² patches"
    elif interface["input"] == "values":
        source = f"{interface['context_length']} × {interface['channels']} values"
    else:
        source = f"{interface['context_length']} tokens of {interface['vocab_size']}"
    return f"embedding, {positions}", f"{source} → {architecture['d_model']}"


def _pill(canvas: _Canvas, title: str, remark: str) -> None:
    canvas.box(6, canvas.y, WIDTH - 12, 34, "pf-plain", radius=17)
    canvas.text(24, canvas.y + 21.5, title, "pf-strong")
    canvas.text(WIDTH - 24, canvas.y + 21.5, remark, "pf-small", "end")
    canvas.y += 46


def _block(
    canvas: _Canvas,
    architecture: Mapping[str, Any],
    layer: Mapping[str, Any],
    first: int,
    count: int,
    longest: int,
) -> None:
    parallel = layer.get("residual", "serial") == "parallel"
    post = layer.get("placement", "pre") == "post"
    top = canvas.y
    height = 34 + 2 * 62 + (0 if not post else 14 if parallel else 24)
    canvas.box(6, top, WIDTH - 12, height, "pf-frame", radius=10)
    name = f"layer {first}" if count == 1 else f"layers {first}–{first + count - 1}"
    canvas.text(48, top + 22, name, "pf-strong")
    norm = str(layer["norm"]["kind"])
    remarks = [
        NORM_WORDS.get(norm, norm),
        *(["post-norm"] if post else []),
        *(["parallel"] if parallel else []),
    ]
    canvas.text(48 + 7.4 * len(name) + 12, top + 22, " · ".join(remarks), "pf-small")
    _badge(canvas, str(layer.get("number_format", "fp32")), top + 10)
    y = top + 34
    if parallel:
        _branch(canvas, y + 24, y + 24 + 62, tap=y + 2, join=y + 24 + 62 + 28, post=post)
    mixer_y, feed_forward_y = y, y + 62 + (12 if post and not parallel else 0)
    _mixer(canvas, architecture, layer["mixer"], mixer_y)
    _feed_forward(canvas, layer["feed_forward"], feed_forward_y, longest)
    if not parallel:
        for box_y in (mixer_y, feed_forward_y):
            _serial(canvas, box_y, post=post)
    canvas.y = top + height + 12


def _serial(canvas: _Canvas, y: float, *, post: bool) -> None:
    """Stream -> (norm) -> box -> (+), for a box at y; `post` puts the norm behind the sum."""
    middle = y + 24
    start = y - 2
    canvas.wire(f"M{STREAM_X} {start:g}H58V{middle - 6:g}H{BOX_X}")
    canvas.wire(f"M{BOX_X} {middle + 8:g}H58V{y + 48:g}H{STREAM_X + 8}")
    if post:
        canvas.join(y + 48)
        canvas.tint(STREAM_X - 11, y + 60, 22, 6, LIGHT.muted, 0.9)
    else:
        canvas.tint(62, middle - 12, 6, 12, LIGHT.muted, 0.9)
        canvas.join(y + 48)


def _branch(
    canvas: _Canvas, mixer_y: float, feed_forward_y: float, *, tap: float, join: float, post: bool
) -> None:
    """Both halves read the same stream and are added together; `post` puts one norm behind the sum."""
    for middle in (mixer_y, feed_forward_y):
        canvas.wire(f"M{STREAM_X} {tap:g}H62V{middle - 6:g}H{BOX_X}")
        canvas.wire(f"M{BOX_X} {middle + 8:g}H50V{join:g}H{STREAM_X + 8}")
        if not post:
            canvas.tint(68, middle - 12, 6, 12, LIGHT.muted, 0.9)
    canvas.join(join)
    if post:
        canvas.tint(STREAM_X - 11, join + 12, 22, 6, LIGHT.muted, 0.9)


def _badge(canvas: _Canvas, number_format: str, y: float) -> None:
    colour = FORMAT_COLOURS.get(number_format, OTHER_COLOUR)
    canvas.tint(WIDTH - 68, y, 46, 17, colour, 0.24)
    canvas.text(WIDTH - 45, y + 12.5, format_word(number_format), "pf-small", "middle")


def _mixer(canvas: _Canvas, architecture: Mapping[str, Any], mixer: Mapping[str, Any], y: float) -> None:
    kind = str(mixer["kind"])
    colour = _mixer_colour(kind)
    canvas.tint(BOX_X, y, BOX_WIDTH, 48, colour, 0.16)
    canvas.tint(BOX_X, y, 5, 48, colour, 1)
    canvas.text(BOX_X + 16, y + 20, MIXER_WORDS.get(kind, kind), "pf-strong")
    canvas.text(BOX_X + 16, y + 37, mixer_sizes(mixer), "pf-small")
    cell = 4.6
    left, top = BOX_X + BOX_WIDTH - CELLS * cell - 8, y + (48 - CELLS * cell) / 2
    shades = sees(mixer, _tokens(architecture["interface"]), causal=architecture["model"] == "decoder")
    for i, row in enumerate(shades):
        for j, shade in enumerate(row):
            canvas.parts.append(
                f'<rect x="{left + cell * j:.1f}" y="{top + cell * i:.1f}" width="4" height="4" rx="0.8" '
                f'fill="{colour}" fill-opacity="{0.12 + 0.8 * shade:.2f}"/>'
            )


def _feed_forward(canvas: _Canvas, config: Mapping[str, Any], y: float, longest: int) -> None:
    length = BOX_WIDTH * int(config.get("d_ff", longest)) / longest
    canvas.tint(BOX_X, y, BOX_WIDTH, 48, LIGHT.cloud, 0.09)
    canvas.tint(BOX_X, y, length, 48, LIGHT.cloud, 0.3)
    canvas.text(BOX_X + 16, y + 20, feed_forward(config), "pf-strong")
    kind = "gated feed-forward" if config["kind"] == "glu" else "feed-forward"
    canvas.text(BOX_X + 16, y + 37, f"{kind}, {config.get('d_ff', '?')} wide", "pf-small")


def _under(stream: str, parts: Sequence[str]) -> str:
    """The residual stream lies above the frames and below everything else."""
    frames = [part for part in parts if "pf-frame" in part]
    others = [part for part in parts if "pf-frame" not in part]
    return "".join([*frames, stream, *others])


def _tokens(interface: Mapping[str, Any]) -> int:
    if interface["input"] == "image":
        patch = int(interface["patch_size"])
        return max(1, (int(interface["height"]) // patch) * (int(interface["width"]) // patch))
    return int(interface["context_length"])


def _d_ff(layer: Mapping[str, Any]) -> int:
    return int(layer["feed_forward"].get("d_ff", 1))


def _mixer_colour(kind: str) -> str:
    return MIXER_COLOURS.get(kind, OTHER_COLOUR)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)
