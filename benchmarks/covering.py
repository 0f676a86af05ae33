"""Architectures that together have every choice: what exports are checked on.

Drawn as a search draws them, from the spaces of every choice of each model kind, at small sizes; then the one
that adds most uncovered choices is taken, again and again, and models of the three kinds take turns.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from space.architecture import Architecture, BytesInterface, ImageInterface, InterfaceConfig, ValuesInterface
from space.feedforward import FEED_FORWARDS
from space.mixers import MIXERS
from space.norms import NORMS
from space.positions import POSITIONS
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

CONTEXT = 48
INTERFACES: tuple[tuple[str, str, InterfaceConfig], ...] = (
    ("decoder", "decoder-full", BytesInterface(vocab_size=256, context_length=CONTEXT, outputs=256)),
    ("encoder", "encoder-full", BytesInterface(vocab_size=256, context_length=CONTEXT, outputs=3)),
    ("vision", "vision-full", ImageInterface(height=12, width=12, channels=1, patch_size=2, outputs=10)),
    ("encoder of values", "encoder-full", ValuesInterface(channels=3, context_length=CONTEXT, outputs=4)),
)
SIZES = {
    "num_layers": [2, 3, 4],
    "d_model": [32, 48],
    "head_width": [8, 16],
    "window": [5, 8],
    "number_format": ["fp32"],
}
DRAWS = 400


def choices_of(architecture: Architecture) -> frozenset[str]:
    """Every choice that an architecture has, as `family kind`; what decodes apart from what does not."""
    way = "causal" if architecture.is_causal else "both ways"
    found = {
        f"position {architecture.position.kind}",
        f"sharing {architecture.sharing.kind}",
        f"projection {architecture.projection.kind}",
        f"head {architecture.head.kind}",
        f"input {architecture.interface.input}",
    }
    for layer in architecture.layers:
        found |= {
            f"mixer {layer.mixer.kind}, {way}",
            f"feed-forward {layer.feed_forward.kind}",
            f"norm {layer.norm.kind}",
            f"block {layer.placement}, {layer.residual}",
        }
    return frozenset(found)


@lru_cache
def covering(count: int, seed: int = 0) -> tuple[Architecture, ...]:
    """That many architectures with as many choices as can be; the first ones have most."""
    rng = random.Random(seed)
    drawn = [[sample(space, rng) for _ in range(DRAWS)] for space in _spaces()]
    covered: set[str] = set()
    chosen: list[Architecture] = []
    while len(chosen) < count:
        pool = drawn[len(chosen) % len(drawn)]
        best = max(pool, key=lambda one: len(choices_of(one) - covered))
        pool.remove(best)
        covered |= choices_of(best)
        chosen.append(best)
    return tuple(chosen)


def missing(architectures: tuple[Architecture, ...]) -> set[str]:
    """Mixers, feed-forwards, norms and positions that none of them has."""
    families: dict[str, dict[str, Any]] = {
        "mixer": MIXERS,
        "feed-forward": FEED_FORWARDS,
        "norm": NORMS,
        "position": POSITIONS,
    }
    known = {
        f"{family} {kind}"
        for family, members in families.items()
        for kind, config in members.items()
        if config.__module__.startswith("space.")
    }
    return known - {choice.split(",")[0] for one in architectures for choice in choices_of(one)}


def _spaces() -> Iterator[SearchSpace]:
    for _, preset, interface in INTERFACES:
        positions = ["rope", "alibi", "t5_bias", "decay", "learned", "none", "sinusoidal"]
        changes = {**SIZES, "position": positions, "sharing": ["none", "all", "repeat_2"]}
        if preset == "vision-full":
            changes |= {"patch_size": [2], "pooling": ["mean", "max", "cls"]}
        yield load_preset(preset).with_domains(changes).for_interface(interface)
