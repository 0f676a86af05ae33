"""What mattered: how much each gene decided each objective, as bars, and what chance alone would give."""

from collections.abc import Sequence

import plotly.graph_objects as go

from search.importance import LEAST_TRIALS, Importance

from ..theme import LIGHT, SERIES, empty_layout, figure_layout
from ..wording import label

SHOWN_GENES = 10
PATTERNS = ("", "/", "x", ".")


def too_few_words(found: Sequence[Importance]) -> str:
    """Why there is no bar yet."""
    most = max((one.trials for one in found), default=0)
    return f"Too few trials: {most} are completed, and it takes {LEAST_TRIALS} to tell genes from chance."


def importance_figure(found: Sequence[Importance]) -> go.Figure:
    """Share of each gene (percent), one bar per objective; pale where a shuffled objective does as well."""
    known = [one for one in found if one.genes]
    if not known:
        words = too_few_words(found) if not any(one.is_enough for one in found) else "No gene differs."
        return go.Figure(layout=empty_layout(words))
    order = shown_genes(known)
    traces = []
    for index, one in enumerate(known):
        by_title = {gene.title: gene for gene in one.genes}
        genes = [by_title.get(title) for title in order]
        above = [gene is not None and gene.is_above_chance for gene in genes]
        traces.append(
            go.Bar(
                x=[0.0 if gene is None else 100 * gene.share for gene in genes],
                y=order,
                orientation="h",
                name=f"{label(one.objective)}, {one.trials:,} trials",
                text=[
                    _text(gene.share if gene else 0.0, clear)
                    for gene, clear in zip(genes, above, strict=True)
                ],
                textposition="outside",
                textfont={"color": LIGHT.ink, "size": 11},
                cliponaxis=False,
                marker={
                    "color": SERIES[index % len(SERIES)][0],
                    "opacity": [1.0 if clear else 0.3 for clear in above],
                    "pattern": {"shape": PATTERNS[index % len(PATTERNS)]},
                },
                customdata=[0.0 if gene is None else 100 * gene.chance for gene in genes],
                hovertemplate=(
                    f"%{{y}}, {label(one.objective)}<br>%{{x:.0f}} % of what all genes decide<br>"
                    "by chance up to %{customdata:.0f} %<extra></extra>"
                ),
            )
        )
    longest = max(100 * gene.share for one in known for gene in one.genes)
    layout = figure_layout(
        x={"title": {"text": "share of what the genes decide (%)"}, "range": [0, 1.3 * longest or 1.0]},
        y={"autorange": "reversed", "ticks": "", "showgrid": False},
        barmode="group",
        bargap=0.25,
    )
    return go.Figure(traces, layout=layout)


def shown_genes(found: Sequence[Importance]) -> list[str]:
    """Titles of the genes worth a bar: the largest share for any objective first."""
    most: dict[str, float] = {}
    for one in found:
        for gene in one.genes:
            most[gene.title] = max(most.get(gene.title, 0.0), gene.share)
    return sorted(most, key=lambda title: (-most[title], title))[:SHOWN_GENES]


def _text(share: float, clear: bool) -> str:
    return f" {100 * share:.0f} %" if clear else " within chance" if share > 0 else ""
