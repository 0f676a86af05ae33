"""Entropy score: how much a chain of random linear maps of these sizes can tell apart.

    H = log(n d) * sum over matrices on the main path of log(fan-in) / 2
    rho = residual branches / d                      (effectiveness, beside it)

Main path: what a mixer reads values with and writes with; every map of a feed-forward from first to last
(the expert of a mixture once). Source: Shen et al. 2023, arXiv:2303.02165 (DeepMAD), for convolutions; the
form for transformers is ours. With one width it is nearly depth times log d: a size measure with a guard on
depth.
"""

import math
from collections.abc import Iterator

from space.architecture import Architecture
from space.choice import FeedForwardChoice, LinearMap, MixerChoice, Surroundings

from ..proxy import Score, StaticProxy


class EntropyMad(StaticProxy):
    id = "entropy_mad"
    version = 1
    direction = "max"
    summary = "entropy of a chain of random maps of these sizes"

    def value(self, architecture: Architecture) -> Score:
        at = architecture.surroundings()
        fans = [fan for layer in architecture.layers for fan in _mixer_fans(layer.mixer, at)]
        fans += [
            fan for layer in architecture.layers for one in layer.feed_forwards for fan in _fans(one, at)
        ]
        branches = sum(1 + len(layer.feed_forwards) for layer in architecture.layers)
        area = math.log(architecture.tokens * architecture.d_model)
        deviation = math.fsum(math.log(fan) / 2 for fan in fans)
        return Score(area * deviation, {"effectiveness": branches / architecture.d_model})


def _mixer_fans(mixer: MixerChoice, at: Surroundings) -> Iterator[int]:
    """Fan-in of the widest map that reads the stream, and of the last that writes into it."""
    maps = mixer.maps(at)
    reading = [one for one in maps if one.inputs == at.d_model]
    writing = [one for one in maps if one.parts == (at.d_model,)]
    if reading:
        widest: LinearMap = max(reading, key=lambda one: sum(one.parts))
        yield widest.inputs
        if writing and writing[-1] is not widest:
            yield writing[-1].inputs


def _fans(feed_forward: FeedForwardChoice, at: Surroundings) -> Iterator[int]:
    """Fan-in of every map; a router is none."""
    return (one.inputs for one in feed_forward.maps(at) if one.projected)
