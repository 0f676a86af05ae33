"""What the space draws can be built; see `test_presets` for every preset and longer runs."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space.architecture import BytesInterface, ImageInterface, ValuesInterface
from space.model import build_model
from space.sampling import mutate, sample
from space.search_space import load_preset

INTERFACES: dict[str, BytesInterface | ValuesInterface | ImageInterface] = {
    "decoder-small": BytesInterface(context_length=32, outputs=256),
    "encoder-small": ValuesInterface(channels=3, context_length=30, outputs=4),
    "vision-small": ImageInterface(height=8, width=8, patch_size=2, outputs=10),
}


@pytest.mark.parametrize("preset", INTERFACES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_f43_every_drawn_and_mutated_architecture_builds(preset: str, seed: int) -> None:
    space = load_preset(preset).for_interface(INTERFACES[preset])
    rng = random.Random(seed)
    drawn = sample(space, rng)
    for architecture in (drawn, mutate(space, drawn, rng)):
        assert sum(weight.numel() for weight in build_model(architecture, seed=0).parameters()) > 0
