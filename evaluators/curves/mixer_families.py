"""Which architectures learn alike, by what their token mixers declare: foreign mixers have a place too."""

from space.architecture import Architecture
from space.choice import MixerChoice, Surroundings

FAMILIES = ("attention", "state", "local", "mixed")
"""attention: a probability matrix. state: the whole context without one (linear attention, recurrences,
transforms). local: only neighbours in a layer (convolution, pooling). mixed: layers of several families."""


def mixer_family(architecture: Architecture) -> str:
    """One of FAMILIES."""
    at = architecture.surroundings()
    found = {_family(layer.mixer, at) for layer in architecture.layers}
    return found.pop() if len(found) == 1 else "mixed"


def _family(mixer: MixerChoice, at: Surroundings) -> str:
    if mixer.has_probabilities:
        return "attention"
    return "state" if mixer.reach(at) >= at.context_length - 1 else "local"
