"""An architecture as a picture: block by block from input to output, as standalone SVG.

    embedding
        |---- norm -- mixer ---- (+)
        |                         |---- norm -- feed-forward ---- (+)
       ...
    final norm, head

The residual stream is the line at the left. A mixer's small square shows which position (row) sees which
(column); a feed-forward's bar is as long as its d_ff, on one scale for the whole drawing. Equal neighbours
are drawn once. A layer of residual form `macaron` has its feed-forward twice; a kind that is new is drawn
with its own name and fields. Everything stands in the file: no font, image or script from elsewhere; `title`
and `desc` say it in words.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import escape

from .architecture_words import (
    feed_forward_sizes,
    in_words,
    layer_remarks,
    mixer_sizes,
    model_remarks,
    value_words,
)
from .canvas import STREAM_X, STYLE, Canvas
from .strip import d_ff
from .theme import FORMAT_COLOURS, LIGHT, OTHER_COLOUR, mixer_colour
from .wording import MIXER_WORDS, NORM_WORDS, POSITION_WORDS, describe, feed_forward, format_word

WIDTH = 440
BOX_X = 84
BOX_WIDTH = 330
CELLS = 8
MAX_CHARACTERS = 46
"""Of the small line in a box; longer ones are cut, and stand whole in the box's title."""
STEP = 62
"""From one box of a block to the next."""

Layer = Mapping[str, Any]


def draw_architecture(
    architecture: Mapping[str, Any],
    changed: Mapping[int, Sequence[str]] | None = None,
    *,
    key: str = "",
) -> str:
    """Standalone SVG text of an architecture (its JSON form), block by block.

    `changed`: layer index from 0 -> what of it differs from something else; such layers are marked. `key`:
    a text of its own for each drawing of a page that may have the same one twice, so that ids differ.
    """
    canvas = Canvas()
    marks = changed or {}
    _pill(canvas, *_input_words(architecture))
    remarks = model_remarks(architecture)
    if remarks:
        _pill(canvas, _cut("; ".join(remarks), 58), "")
    layers = list(architecture["layers"])
    longest = max(1, *(d_ff(layer) for layer in layers))
    keyed = [(_canonical(layer), tuple(marks.get(index, ()))) for index, layer in enumerate(layers)]
    first = 0
    for _, group in itertools.groupby(keyed):
        count = len(list(group))
        _block(canvas, architecture, layers[first], (first + 1, count), longest, keyed[first][1])
        first += count
    _pill(canvas, *_output_words(architecture))
    return _svg(architecture, canvas, key)


def _svg(architecture: Mapping[str, Any], canvas: Canvas, key: str) -> str:
    height = canvas.y
    mark = hashlib.sha256(f"{key} {_canonical(architecture)}".encode()).hexdigest()[:10]
    stream = f'<path d="M{STREAM_X} 46V{height - 46:g}" class="pf-stream"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pf-draw" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" role="img" aria-labelledby="t{mark} d{mark}">'
        f'<title id="t{mark}">{escape(describe(architecture))}</title>'
        f'<desc id="d{mark}">{escape(in_words(architecture))}</desc>'
        f"<style>{STYLE}</style>{_under(stream, canvas.parts)}</svg>"
    )


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
        source += f" → {architecture['embedding_width']}" if architecture.get("embedding_width") else ""
    return f"embedding, {positions}", f"{source} → {architecture['d_model']}"


def _output_words(architecture: Mapping[str, Any]) -> tuple[str, str]:
    norm, head = str(architecture["final_norm"]["kind"]), architecture["head"]
    tied = ", weight tied to the embedding" if head.get("tied") else ""
    outputs = architecture["interface"]["outputs"]
    title = f"{NORM_WORDS.get(norm, norm)}, {value_words(head['kind'])} head"
    return title, f"{architecture['d_model']} → {outputs} outputs{tied}"


def _pill(canvas: Canvas, title: str, remark: str) -> None:
    canvas.box(6, canvas.y, WIDTH - 12, 34, "pf-plain", radius=17)
    canvas.text(24, canvas.y + 21.5, title, "pf-strong")
    if remark:
        canvas.text(WIDTH - 24, canvas.y + 21.5, remark, "pf-small", "end")
    canvas.y += 46


def _parts(layer: Layer) -> list[str]:
    """The boxes of a block from input to output."""
    has_feed_forward = (layer.get("feed_forward") or {}).get("kind", "none") != "none"
    halves = ["feed_forward"] if has_feed_forward else []
    return [*(halves if layer.get("residual") == "macaron" else []), "mixer", *halves]


def _block(
    canvas: Canvas,
    architecture: Mapping[str, Any],
    layer: Layer,
    place: tuple[int, int],
    longest: int,
    changed: Sequence[str],
) -> None:
    """`place`: the first layer's number, and how many equal ones follow each other."""
    parts = _parts(layer)
    parallel = layer.get("residual", "serial") == "parallel" and len(parts) > 1
    post = layer.get("placement", "pre") == "post"
    top = canvas.y
    extra = (14 if parallel else 12 * len(parts)) if post else 0
    height = 34 + STEP * len(parts) + extra + (16 if changed else 0)
    canvas.box(6, top, WIDTH - 12, height, "pf-frame", radius=10)
    if changed:
        canvas.box(6, top, WIDTH - 12, height, "pf-changed", radius=10)
        canvas.text(WIDTH - 20, top + height - 8, _cut(f"≠ {', '.join(changed)}", 58), "pf-mark", "end")
    _heading(canvas, layer, place, top)
    y = top + 34
    if parallel:
        _branch(canvas, y + 24, y + 24 + STEP, tap=y + 2, join=y + 24 + STEP + 28, post=post)
    for part in parts:
        if part == "mixer":
            _mixer(canvas, architecture, layer["mixer"], y)
        else:
            _feed_forward(canvas, layer["feed_forward"], y, longest)
        if not parallel:
            _serial(canvas, y, post=post)
        y += STEP + (12 if post and not parallel else 0)
    canvas.y = top + height + 12


def _heading(canvas: Canvas, layer: Layer, place: tuple[int, int], top: float) -> None:
    first, count = place
    name = f"layer {first}" if count == 1 else f"layers {first}–{first + count - 1}"
    canvas.text(48, top + 22, name, "pf-strong")
    norm, residual = str(layer["norm"]["kind"]), str(layer.get("residual", "serial"))
    remarks = [
        NORM_WORDS.get(norm, norm),
        *(["post-norm"] if layer.get("placement", "pre") == "post" else []),
        *([value_words(residual)] if residual != "serial" else []),
        *layer_remarks(layer),
    ]
    left = 48 + 7.4 * len(name) + 12
    room = int((WIDTH - 76 - left) / 5.6)
    canvas.text(left, top + 22, _cut(" · ".join(remarks), room), "pf-small")
    _badge(canvas, str(layer.get("number_format", "fp32")), top + 10)


def _serial(canvas: Canvas, y: float, *, post: bool) -> None:
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
    canvas: Canvas, mixer_y: float, feed_forward_y: float, *, tap: float, join: float, post: bool
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


def _badge(canvas: Canvas, number_format: str, y: float) -> None:
    colour = FORMAT_COLOURS.get(number_format, OTHER_COLOUR)
    word = format_word(number_format)
    width = max(46, 6 * len(word) + 10)
    canvas.tint(WIDTH - 45 - width / 2, y, width, 17, colour, 0.24)
    canvas.text(WIDTH - 45, y + 12.5, word, "pf-small", "middle")


def _mixer(canvas: Canvas, architecture: Mapping[str, Any], mixer: Mapping[str, Any], y: float) -> None:
    kind = str(mixer["kind"])
    colour = mixer_colour(kind)
    canvas.tint(BOX_X, y, BOX_WIDTH, 48, colour, 0.16)
    canvas.tint(BOX_X, y, 5, 48, colour, 1)
    canvas.text(BOX_X + 16, y + 20, MIXER_WORDS.get(kind, value_words(kind)), "pf-strong")
    _small(canvas, mixer_sizes(mixer), y, MAX_CHARACTERS)
    cell = 4.6
    left, top = BOX_X + BOX_WIDTH - CELLS * cell - 8, y + (48 - CELLS * cell) / 2
    shades = sees(mixer, _tokens(architecture["interface"]), causal=architecture["model"] == "decoder")
    for i, row in enumerate(shades):
        for j, shade in enumerate(row):
            canvas.parts.append(
                f'<rect x="{left + cell * j:.1f}" y="{top + cell * i:.1f}" width="4" height="4" rx="0.8" '
                f'fill="{colour}" fill-opacity="{0.12 + 0.8 * shade:.2f}"/>'
            )


def _feed_forward(canvas: Canvas, config: Mapping[str, Any], y: float, longest: int) -> None:
    width = d_ff({"feed_forward": config})
    canvas.tint(BOX_X, y, BOX_WIDTH, 48, LIGHT.cloud, 0.09)
    if width:
        canvas.tint(BOX_X, y, BOX_WIDTH * width / longest, 48, LIGHT.cloud, 0.3)
    canvas.text(BOX_X + 16, y + 20, feed_forward(config), "pf-strong")
    _small(canvas, feed_forward_sizes(config), y, MAX_CHARACTERS + 8)


def _small(canvas: Canvas, words: str, y: float, limit: int) -> None:
    """The second line of a box; the title says it whole."""
    shown = _cut(words, limit)
    title = f"<title>{escape(words)}</title>" if shown != words else ""
    place = f'x="{BOX_X + 16}" y="{y + 37:g}"'
    canvas.parts.append(f'<text {place} class="pf-small" text-anchor="start">{escape(shown)}{title}</text>')


def _cut(words: str, limit: int) -> str:
    return words if len(words) <= limit else f"{words[: max(1, limit - 1)].rstrip(' ,;·')}…"


def _under(stream: str, parts: Sequence[str]) -> str:
    """The residual stream lies above the frames and below everything else."""
    frames = [part for part in parts if _is_frame(part)]
    others = [part for part in parts if not _is_frame(part)]
    return "".join([*frames, stream, *others])


def _tokens(interface: Mapping[str, Any]) -> int:
    if interface["input"] == "image":
        patch = int(interface["patch_size"])
        return max(1, (int(interface["height"]) // patch) * (int(interface["width"]) // patch))
    return int(interface["context_length"])


def _is_frame(part: str) -> bool:
    return 'class="pf-frame"' in part


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)
