"""What every choice owes the sums over it: no token meets more parameters than there are."""

import pytest

from space.choice import FeedForwardChoice, LinearMap, MixerChoice, Surroundings
from space.feedforward import FEED_FORWARDS
from space.layer_options import feed_forward_config, mixer_config
from space.mixers import MIXERS
from space.positions import NonePositionConfig


def surroundings(*, causal: bool, rank_ratio: float) -> Surroundings:
    return Surroundings(
        d_model=64, context_length=32, num_layers=2, causal=causal, position=NonePositionConfig(),
        rank_ratio=rank_ratio,
    )  # fmt: skip


@pytest.mark.parametrize("rank_ratio", [1.0, 0.25])
@pytest.mark.parametrize("causal", [True, False])
def test_no_token_meets_more_parameters_than_there_are(causal: bool, rank_ratio: float) -> None:
    at = surroundings(causal=causal, rank_ratio=rank_ratio)
    mixers = [kind for kind, one in MIXERS.items() if (one.causal if causal else one.bidirectional)]
    configs: list[MixerChoice | FeedForwardChoice] = [
        *(mixer_config({"mixer": kind}, at) for kind in mixers),
        *(feed_forward_config({"feed_forward": kind, "ff_ratio": 4}, at) for kind in FEED_FORWARDS),
    ]
    for config in configs:
        assert 0 <= config.idle_params(at) <= config.params(at), config.kind


class _Twice(MixerChoice):
    """One map that runs both ways, and a choice of two maps of four."""

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        return LinearMap(3, (5,), active=2), LinearMap(3, (7,), copies=4, active=2)


def test_a_map_that_runs_twice_is_met_once() -> None:
    at = surroundings(causal=False, rank_ratio=1.0)
    assert _Twice().idle_params(at) == 2 * 3 * 7
    assert _Twice().map_macs(at) == 2 * 3 * 5 + 2 * 3 * 7
