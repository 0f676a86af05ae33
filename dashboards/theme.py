"""Colours and figure layout, once for pages, drawings and figures, light and dark.

The hues are those of Okabe and Ito (2008), which stay apart for colour-blind readers, darkened or lightened
for contrast on the two backgrounds. Figures are built in the light palette with a transparent background; the
browser replaces every light colour by its dark partner (`dark_colours`) when the reader prefers a dark page.
No mark differs by colour alone.
"""

import textwrap
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True, slots=True)
class Palette:
    """One colour per role; the light and the dark palette have the same roles."""

    ink: str
    muted: str
    grid: str
    line: str
    surface: str
    page: str
    accent: str
    """The search front."""
    reference: str
    cloud: str
    """Evaluated and dominated."""
    highlight: str
    """Suggestions and the speed-up."""
    good: str
    bad: str


LIGHT = Palette(
    ink="#16212e",
    muted="#586577",
    grid="#e6eaef",
    line="#d3dae2",
    surface="#ffffff",
    page="#f5f7fa",
    accent="#0067a5",
    reference="#c14f00",
    cloud="#8d99a8",
    highlight="#a3477f",
    good="#00795a",
    bad="#b3261e",
)
DARK = Palette(
    ink="#e7edf4",
    muted="#9aa8b8",
    grid="#243140",
    line="#31404f",
    surface="#141d27",
    page="#0c131a",
    accent="#5cb8ee",
    reference="#f0a33a",
    cloud="#6d7b8b",
    highlight="#e79ac6",
    good="#4fcaa4",
    bad="#ff8a80",
)

MIXER_COLOURS: Mapping[str, str] = {
    "softmax": "#0072b2",
    "sliding_window": "#3fa0d8",
    "linear_elu": "#009e73",
    "gated_conv": "#d98200",
    "pool": "#c0699b",
}
"""Of drawings; readable as tint and stripe on both backgrounds. Any other mixer: one of `MORE_COLOURS`."""
MORE_COLOURS = ("#5b6bc0", "#b5651d", "#2b8f93", "#a34f6f", "#7d8b2a", "#8a5cb8", "#b03a48", "#4d7c5a")
OTHER_COLOUR = "#7a8694"

FORMAT_COLOURS: Mapping[str, str] = {
    "fp32": "#7a8694",
    "bf16": "#009e73",
    "int8_dynamic": "#d55e00",
    "int8_mixed": "#b07d12",
    "int4_g32": "#8a5cb8",
    "int4_g64": "#b0508f",
    "fp4_g32": "#3f7fbf",
}

SEARCH_SYMBOLS: Mapping[str, str] = {
    "fp32": "circle",
    "bf16": "square",
    "int8_dynamic": "diamond",
    "int8_mixed": "diamond-wide",
    "int4_g32": "pentagon",
    "int4_g64": "octagon",
    "fp4_g32": "cross",
    "mixed": "hexagon2",
}
REFERENCE_SYMBOLS: Mapping[str, str] = {
    "fp32": "triangle-up",
    "bf16": "triangle-left",
    "int8_dynamic": "triangle-down",
    "mixed": "triangle-right",
}


SERIES: tuple[tuple[str, str, str, str], ...] = (
    (LIGHT.accent, "circle", "solid", "●"),
    (LIGHT.reference, "diamond", "dash", "◆"),
    (LIGHT.good, "square", "dot", "■"),
    (LIGHT.highlight, "triangle-up", "dashdot", "▲"),
)
"""Things side by side: colour, mark, line and the mark as a character."""


def mixer_colour(kind: str) -> str:
    """The colour of a token mixer: its own, or one that its name always leads to."""
    return MIXER_COLOURS.get(kind) or MORE_COLOURS[zlib.crc32(kind.encode()) % len(MORE_COLOURS)]


def symbol(table: Mapping[str, str], number_format: str, *, hollow: bool) -> str:
    """The mark of a number format; hollow says predicted or noisy."""
    return table.get(number_format, "star") + ("-open" if hollow else "")


def dark_colours() -> dict[str, str]:
    """Light colour -> dark colour, for the browser."""
    dark = asdict(DARK)
    return {colour: dark[role] for role, colour in asdict(LIGHT).items()}


def figure_layout(*, x: Mapping[str, Any], y: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The layout every figure starts from; `x` and `y` are its axes."""
    axis = {
        "gridcolor": LIGHT.grid,
        "linecolor": LIGHT.line,
        "tickcolor": LIGHT.line,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13, "color": LIGHT.muted}},
    }
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": LIGHT.ink},
        "margin": {"l": 64, "r": 16, "t": 16, "b": 52},
        "hovermode": "closest",
        "modebar": {
            "orientation": "v",
            "bgcolor": "rgba(0,0,0,0)",
            "color": LIGHT.muted,
            "activecolor": LIGHT.ink,
        },
        "hoverlabel": {
            "align": "left",
            "bgcolor": LIGHT.surface,
            "bordercolor": LIGHT.line,
            "font": {"family": FONT, "size": 13, "color": LIGHT.ink},
        },
        "legend": {
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "font": {"color": LIGHT.muted},
        },
        "xaxis": _merged(axis, x),
        "yaxis": _merged(axis, y),
        **more,
    }


def empty_layout(sentence: str) -> dict[str, Any]:
    """A figure without data says why it is empty."""
    hidden = {"visible": False}
    layout = figure_layout(x=hidden, y=hidden)
    layout["annotations"] = [
        {
            "text": "<br>".join(textwrap.wrap(sentence, 44)),
            "xref": "paper",
            "yref": "paper",
            "x": 0.5,
            "y": 0.5,
            "showarrow": False,
            "font": {"size": 15, "color": LIGHT.muted},
        }
    ]
    return layout


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    title = {**base["title"], **more.get("title", {})}
    return {**base, **more, "title": title}
