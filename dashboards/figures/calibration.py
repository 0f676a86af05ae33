"""How well a machine's device model explains the small operators it was fitted to."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from ..theme import LIGHT, empty_layout, figure_layout
from ..wording import plain

EMPTY = "This machine has not been calibrated."

Kernels = Sequence[tuple[str, float, float]]
"""(name, measured seconds, seconds of the fitted model)."""


def kernels_of(calibration: Mapping[str, object]) -> Kernels:
    """The micro-kernels of a stored calibration, fastest first."""
    stored = calibration.get("kernels")
    if not isinstance(stored, Mapping):
        return []
    rows = [(str(name), float(one["measured_s"]), float(one["fitted_s"])) for name, one in stored.items()]
    return sorted(rows, key=lambda row: row[1])


def calibration_figure(kernels: Kernels) -> go.Figure:
    """Fitted over measured time of every micro-kernel, in microseconds on log axes."""
    if not kernels:
        return go.Figure(layout=empty_layout(EMPTY))
    times = [1e6 * value for _, *pair in kernels for value in pair]
    ends = [min(times), max(times)]
    axis = {"type": "log", "tickformat": "~r", "dtick": "D1"}
    return go.Figure(
        [
            go.Scatter(
                x=ends, y=ends, mode="lines", name="explained exactly", hoverinfo="skip",
                line={"color": LIGHT.muted, "dash": "dot", "width": 1.2},
            ),
            go.Scatter(
                x=[1e6 * measured for _, measured, _ in kernels],
                y=[1e6 * fitted for _, _, fitted in kernels],
                hovertext=[plain(name) for name, _, _ in kernels],
                mode="markers",
                marker={"color": LIGHT.accent, "size": 9},
                name="micro-kernels",
                hovertemplate="%{hovertext}<br>measured %{x:.3g} µs<br>model %{y:.3g} µs<extra></extra>",
            ),
        ],
        layout=figure_layout(
            x={"title": {"text": "measured (µs)"}, **axis}, y={"title": {"text": "device model (µs)"}, **axis}
        ),
    )  # fmt: skip
