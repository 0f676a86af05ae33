"""Where latency and memory are: one bar per block, one stack per layer."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ..anatomy import BlockTime, LayerMemory
from ..theme import LIGHT, empty_layout, figure_layout, mixer_colour

NO_BLOCKS = "The blocks of this architecture have not been measured on the job's device."
NO_MEMORY = "The memory of this architecture cannot be taken apart."


def blocks_figure(times: Sequence[BlockTime]) -> go.Figure:
    """What each block takes (ms) from input to output; the share of the sum stands at the bar."""
    if not times:
        return go.Figure(layout=empty_layout(NO_BLOCKS))
    total = sum(time.seconds for time in times)
    texts = [f" {1e3 * time.seconds:.3g} ms  ({100 * time.seconds / total:.0f} %)" for time in times]
    bars = go.Bar(
        x=[1e3 * time.seconds for time in times],
        y=[f"{place + 1}. {time.block.name}" for place, time in enumerate(times)],
        orientation="h",
        text=texts,
        textposition="outside",
        textfont={"color": LIGHT.ink},
        cliponaxis=False,
        marker={
            "color": [_colour(time) for time in times],
            "pattern": {"shape": ["/" if time.block.part == "feed_forward" else "" for time in times]},
        },
        error_x={
            "type": "data",
            "array": [1e3 * (time.spread_s or 0.0) for time in times],
            "color": LIGHT.ink,
            "thickness": 1.2,
            "width": 3,
        },
        customdata=[time.block.kind.replace("_", " ") for time in times],
        hovertemplate="%{y} %{customdata}: %{x:.4g} ms<extra></extra>",
    )
    longest = 1e3 * max(time.seconds for time in times)
    return go.Figure(
        bars,
        layout=figure_layout(
            x={"title": {"text": "latency, measured alone (ms)"}, "range": [0, 2.1 * longest]},
            y={"autorange": "reversed", "ticks": "", "showgrid": False},
            bargap=0.25,
            showlegend=False,
        ),
    )


def memory_figure(layers: Sequence[LayerMemory]) -> go.Figure:
    """Weights and state of every layer stacked, and beside them what lives while the layer runs (KiB)."""
    if not layers:
        return go.Figure(layout=empty_layout(NO_MEMORY))
    names = [layer.name for layer in layers]
    groups = (
        ("weights", [layer.weights_bytes for layer in layers], LIGHT.accent, "", 0),
        ("state between tokens", [layer.state_bytes for layer in layers], LIGHT.good, "x", 0),
        (
            "activations while it runs",
            [layer.activation_bytes for layer in layers],
            LIGHT.reference,
            "/",
            1,
        ),
    )
    traces = [
        go.Bar(
            x=[value / 1024 for value in values],
            y=names,
            orientation="h",
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern}},
            offsetgroup=str(group),
            hovertemplate=f"%{{y}}<br>{name} %{{x:,.4~g}} KiB<extra></extra>",
        )
        for name, values, colour, pattern, group in groups
        if any(values)
    ]
    return go.Figure(
        traces,
        layout=figure_layout(
            x={"title": {"text": "memory (KiB)"}, "rangemode": "tozero"},
            y={"autorange": "reversed", "ticks": "", "showgrid": False},
            barmode="stack",
            bargap=0.3,
        ),
    )


def _colour(time: BlockTime) -> str:
    if time.block.part == "mixer":
        return mixer_colour(time.block.kind)
    return LIGHT.cloud if time.block.part == "feed_forward" else LIGHT.muted
