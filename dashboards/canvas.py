"""Pieces of a drawing: boxes, wires and words as SVG text, in the colours of both palettes."""

from dataclasses import dataclass, field

from markupsafe import escape

from .theme import DARK, FONT, LIGHT

STREAM_X = 26
"""Where the residual stream runs."""

STYLE = f"""
.pf-draw text {{ font: 13px {FONT}; fill: {LIGHT.ink}; }}
.pf-draw .pf-small {{ font-size: 11px; fill: {LIGHT.muted}; }}
.pf-draw .pf-strong {{ font-weight: 600; }}
.pf-draw .pf-stream {{ stroke: {LIGHT.muted}; fill: none; stroke-width: 2; }}
.pf-draw .pf-wire {{ stroke: {LIGHT.muted}; fill: none; stroke-width: 1.4; }}
.pf-draw .pf-join {{ stroke: {LIGHT.muted}; fill: {LIGHT.surface}; stroke-width: 1.6; }}
.pf-draw .pf-frame {{ fill: {LIGHT.page}; stroke: {LIGHT.line}; }}
.pf-draw .pf-plain {{ fill: {LIGHT.surface}; stroke: {LIGHT.line}; }}
.pf-draw .pf-changed {{ fill: none; stroke: {LIGHT.highlight}; stroke-width: 2; stroke-dasharray: 5 3; }}
.pf-draw text.pf-mark {{ fill: {LIGHT.highlight}; font-size: 11px; font-weight: 600; }}
@media (prefers-color-scheme: dark) {{
.pf-draw text {{ fill: {DARK.ink}; }}
.pf-draw .pf-small {{ fill: {DARK.muted}; }}
.pf-draw .pf-stream, .pf-draw .pf-wire {{ stroke: {DARK.muted}; }}
.pf-draw .pf-join {{ stroke: {DARK.muted}; fill: {DARK.surface}; }}
.pf-draw .pf-frame {{ fill: {DARK.page}; stroke: {DARK.line}; }}
.pf-draw .pf-plain {{ fill: {DARK.surface}; stroke: {DARK.line}; }}
.pf-draw .pf-changed {{ stroke: {DARK.highlight}; }}
.pf-draw text.pf-mark {{ fill: {DARK.highlight}; }}
}}
"""


@dataclass
class Canvas:
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
