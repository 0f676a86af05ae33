"""Aspect ratio: width over depth.

    S = d_model / layers

A shape, not a size. Direction as Levine et al. 2020, arXiv:2006.12467, read it: at equal size there is a best
depth, so that neither way is better everywhere; larger is written down here only to have a sign to test.
"""

from space.architecture import Architecture

from ..proxy import Score, StaticProxy


class Aspect(StaticProxy):
    id = "aspect"
    version = 1
    direction = "max"
    summary = "width of the stream over the number of layers"

    def value(self, architecture: Architecture) -> Score:
        return Score(architecture.d_model / len(architecture.layers))
