"""How a front grew, as small as a word: hypervolume over counted trials, the references as a dashed line."""

from collections.abc import Sequence

from .theme import LIGHT

WIDTH, HEIGHT, PAD = 104, 28, 3


def draw_sparkline(history: Sequence[tuple[int, float]], reference: float | None = None) -> str:
    """SVG text; empty without history. Colours are the page's own, by class."""
    if not history:
        return ""
    last = max(count for count, _ in history)
    values = [value for _, value in history] + ([] if reference is None else [reference])
    low, high = min(0.0, *values), max(values)

    def x(count: float) -> float:
        return PAD + (WIDTH - 2 * PAD) * (count / last if last else 1.0)

    def y(value: float) -> float:
        return HEIGHT - PAD - (HEIGHT - 2 * PAD) * ((value - low) / (high - low) if high > low else 0.5)

    first_count, first = history[0]
    path = f"M{x(first_count):.1f} {y(first):.1f}" + "".join(
        f"H{x(count):.1f}V{y(value):.1f}" for count, value in history[1:]
    )
    end = history[-1][1]
    words = f"hypervolume {end:.3f} after {last} trial{'s' if last != 1 else ''}"
    line = ""
    if reference is not None:
        words += f", references {reference:.3f}"
        line = (
            f'<path class="spark-reference" d="M{PAD} {y(reference):.1f}H{WIDTH - PAD}" '
            f'stroke="{LIGHT.reference}" stroke-dasharray="4 3" fill="none"/>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img"><title>{words}</title>{line}'
        f'<path class="spark-line" d="{path}" stroke="{LIGHT.accent}" stroke-width="1.8" fill="none"/>'
        f'<circle class="spark-end" cx="{x(last):.1f}" cy="{y(end):.1f}" r="2.4" fill="{LIGHT.accent}"/>'
        "</svg>"
    )
